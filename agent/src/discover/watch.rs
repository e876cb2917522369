//! Hints that something changed, from inotify: they wake the files thread before its next rescan.
//!
//! Nothing rests on them. Where a folder cannot be watched (no watches left, a file system without
//! them) it is said once, and the rescan alone goes on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use glob::Pattern;
use notify::event::{ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::said::Said;
use super::told::Told;
use crate::stop::Stop;

/// Watches folders, and wakes a thread.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of each watched folder: one that was deleted and made again is another.
    folders: HashMap<PathBuf, (u64, u64)>,
    told: Told,
    covered: u32,
    shared: Arc<Shared>,
    overflow_said: bool,
    limit_said: bool,
    said: Said,
}

/// What events leave for the thread.
#[derive(Debug, Default)]
struct Shared {
    scan_wanted: AtomicBool,
    folder_gone: AtomicBool,
    overflowed: AtomicBool,
    changed: Mutex<Changed>,
}

/// Every so many times that folders are asked for, each watch is: of one that went with its file system, and
/// lies there again under the same number, nobody told.
const WATCH_ALL_EVERY: u32 = 60;

/// Most changed names that are remembered; above it any file may have changed.
const CHANGED_MAX: usize = 4096;

/// Files that were written to, by their names: one folder may be watched under several paths, and
/// an event tells but one of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changed {
    names: HashSet<OsString>,
    any: bool,
}

impl Changed {
    /// Nobody knows which: each may have been.
    pub fn any() -> Self {
        Self {
            names: HashSet::new(),
            any: true,
        }
    }

    /// Those of these names.
    #[cfg(test)]
    pub(crate) fn of(names: impl IntoIterator<Item = OsString>) -> Self {
        let names = names.into_iter().collect();
        Self { names, any: false }
    }

    /// Whether the file at `path` may have been written to.
    pub fn holds(&self, path: Option<&Path>) -> bool {
        let name = || path.and_then(Path::file_name);
        self.any || !self.names.is_empty() && name().is_some_and(|name| self.names.contains(name))
    }

    fn add(&mut self, paths: Vec<PathBuf>) {
        let names = paths.iter().filter_map(|path| path.file_name());
        self.names.extend(names.map(OsStr::to_owned));
        if self.names.len() > CHANGED_MAX {
            *self = Self::any();
        }
    }
}

/// What an event says to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    Nothing,
    /// Bytes were written.
    Read,
    /// Names changed.
    Scan,
    /// A folder was deleted, maybe a watched one.
    FolderGone,
}

impl Watch {
    /// Watches nothing yet. `thread` is woken at each event that matters.
    pub fn start(thread: Stop) -> Self {
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let on_event = move |event: notify::Result<Event>| {
            let hint = hint(&event);
            let lost = event.as_ref().map_or(true, Event::need_rescan);
            told.overflowed.fetch_or(lost, Ordering::AcqRel);
            if hint != Hint::Nothing {
                let mut changed = told.changed.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(event) if !lost => changed.add(event.paths),
                    _ => *changed = Changed::any(),
                }
            }
            if hint == Hint::FolderGone {
                told.folder_gone.store(true, Ordering::Release);
            }
            if matches!(hint, Hint::Scan | Hint::FolderGone) {
                told.scan_wanted.store(true, Ordering::Release);
            }
            if hint != Hint::Nothing {
                thread.wake();
            }
        };
        let watcher = notify::recommended_watcher(on_event)
            .inspect_err(|error| {
                tracing::warn!("no inotify ({error}); changes are found by the rescan alone");
            })
            .ok();
        Self {
            watcher,
            folders: HashMap::new(),
            told: Told::default(),
            covered: 0,
            shared,
            overflow_said: false,
            limit_said: false,
            said: Said::default(),
        }
    }

    /// The files that were written to since it was last asked.
    pub fn take_changed(&self) -> Changed {
        let mut changed = (self.shared.changed.lock()).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changed)
    }

    /// Whether names changed since it was last asked.
    pub fn take_scan_wanted(&mut self) -> bool {
        if self.shared.overflowed.swap(false, Ordering::AcqRel)
            && !std::mem::replace(&mut self.overflow_said, true)
        {
            tracing::warn!(
                "events were lost (limit: fs.inotify.max_queued_events): everything is looked at \
                 anew, now and whenever it happens again; nothing is missed by it (said once)"
            );
        }
        self.shared.scan_wanted.swap(false, Ordering::AcqRel)
    }

    /// Those folders of which nothing remains untold.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Watches exactly these folders from now on. Returns whether one is new: what happened in it
    /// before was not told, so a scan is due.
    pub fn cover(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        // A deleted folder took its watch along, and its inode may be that of the next already.
        let start_anew = self.shared.folder_gone.swap(false, Ordering::AcqRel);
        let place = |folder: &PathBuf| {
            let metadata = fs::metadata(folder).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let places: HashMap<_, _> = (folders.iter())
            .filter_map(|folder| Some((folder, place(folder)?)))
            .collect();
        let is_stale = |folder: &PathBuf, watched: (u64, u64)| {
            start_anew || places.get(folder) != Some(&watched)
        };
        for (folder, _) in (self.folders).extract_if(|folder, watched| is_stale(folder, *watched)) {
            // Its watch may be gone with it: nothing to do then.
            watcher.unwatch(&folder).ok();
            self.told.forget(&folder);
        }
        self.covered = self.covered.wrapping_add(1);
        let watch_all = self.covered.is_multiple_of(WATCH_ALL_EVERY);
        let mut is_new = false;
        for folder in folders {
            let Some(place) = places.get(folder) else {
                continue;
            };
            let is_watched = self.folders.contains_key(folder);
            if is_watched && !watch_all {
                continue;
            }
            let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
            if watched.is_err() {
                self.folders.remove(folder);
                self.told.forget(folder);
            }
            match watched {
                Ok(()) => {
                    self.said.is_over(folder);
                    self.told.enter(folder, *place);
                    self.folders.insert(folder.clone(), *place);
                    is_new |= !is_watched;
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    if !std::mem::replace(&mut self.limit_said, true) {
                        tracing::warn!(
                            "no watch is left for {} (limit: fs.inotify.max_user_watches); its \
                             changes, and those of further folders, are found by the rescan alone \
                             (said once)",
                            folder.display()
                        );
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    if self.said.is_news(folder, &text) {
                        tracing::warn!(
                            "cannot watch {}: {text}; its changes are found by the rescan alone",
                            folder.display()
                        );
                    }
                }
            }
        }
        is_new
    }
}

fn hint(event: &notify::Result<Event>) -> Hint {
    match event {
        // An overflow, or an error of the watch: anything may have happened.
        Err(_) => Hint::Scan,
        Ok(event) if event.need_rescan() => Hint::Scan,
        Ok(event) => match event.kind {
            // Our own reading is an access too.
            EventKind::Access(_) => Hint::Nothing,
            EventKind::Modify(ModifyKind::Data(_)) => Hint::Read,
            EventKind::Remove(RemoveKind::Folder) => Hint::FolderGone,
            _ => Hint::Scan,
        },
    }
}

/// The deepest folder of a glob that is named in full: what appears below it changes its matches.
pub fn fixed_folder(pattern: &Pattern) -> PathBuf {
    let path = Path::new(pattern.as_str());
    let is_fixed = |component: &Component<'_>| {
        let name = component.as_os_str().as_encoded_bytes();
        !name.iter().any(|byte| b"*?[".contains(byte))
    };
    let folders = path.parent().unwrap_or(path);
    folders.components().take_while(is_fixed).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{AccessKind, CreateKind, DataChange, Flag, RenameMode};

    use super::*;

    #[test]
    fn a_glob_has_a_fixed_folder() {
        for (glob, folder) in [
            ("/var/log/syslog", "/var/log"),
            ("/var/log/*.log", "/var/log"),
            ("/var/*/x/*.log", "/var"),
            ("/var/log/**/a[0-9].log", "/var/log"),
            ("/*", "/"),
        ] {
            assert_eq!(
                fixed_folder(&Pattern::new(glob).unwrap()),
                Path::new(folder)
            );
        }
    }

    #[test]
    fn reading_is_no_event() {
        let of = |kind| hint(&Ok(Event::new(kind)));
        assert_eq!(of(EventKind::Access(AccessKind::Any)), Hint::Nothing);
        assert_eq!(
            of(EventKind::Modify(ModifyKind::Data(DataChange::Any))),
            Hint::Read
        );
        assert_eq!(
            of(EventKind::Modify(ModifyKind::Name(RenameMode::Any))),
            Hint::Scan
        );
        assert_eq!(of(EventKind::Create(CreateKind::File)), Hint::Scan);
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(hint(&Ok(overflow)), Hint::Scan);
        assert_eq!(hint(&Err(notify::Error::generic("x"))), Hint::Scan);
    }

    #[test]
    fn what_changed_is_told_until_it_is_too_much() {
        let mut changed = Changed::default();
        assert!(!changed.holds(Some(Path::new("/a"))));
        changed.add(vec!["/a".into()]);
        assert!(changed.holds(Some(Path::new("/a"))) && !changed.holds(Some(Path::new("/b"))));
        assert!(!changed.holds(None) && Changed::any().holds(None));
        changed.add((0..CHANGED_MAX).map(|n| format!("/{n}").into()).collect());
        assert!(changed.holds(Some(Path::new("/b"))));
        assert!(changed.names.is_empty(), "and takes no more memory");
    }

    #[test]
    fn a_new_name_wakes_the_thread_also_in_a_folder_made_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("log");
        let stop = Stop::new();
        let mut watch = Watch::start(stop.clone());
        let folders = BTreeSet::from([folder.clone()]);
        // Waits are as long as it takes: a lost event would hang here, and fail by the runner's
        // limit.
        for _ in 0..2 {
            fs::create_dir(&folder).unwrap();
            while !watch.cover(&folders) {
                stop.wait(Duration::from_millis(10));
            }
            assert!(!watch.cover(&folders));
            // What is still on its way from before is taken, so that the next word is the name's.
            stop.sleep(Duration::from_millis(100));
            watch.take_scan_wanted();
            fs::write(folder.join("a.log"), "x").unwrap();
            while !watch.take_scan_wanted() {
                stop.wait(Duration::from_secs(10));
            }
            fs::remove_dir_all(&folder).unwrap();
            // Word of it must not come when the next folder is watched already.
            while !watch.shared.folder_gone.load(Ordering::Acquire) {
                stop.wait(Duration::from_secs(10));
            }
        }
    }
}
