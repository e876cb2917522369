//! Finds the files of known generations again after a restart: where they lay, or rotated away from
//! there while nobody looked, compressed maybe, or copied before the original was cut.
//!
//! First by place (device and inode) and content, all of them; what is left by content alone, among
//! the rotated files beside where it lay. Nothing is taken twice.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;

use headwater_record::notice::reason;
use headwater_record::{DeviceId, StreamId};

use super::desk::Source;
use super::opened::Opened;
use super::reader::Followed;
use super::siblings::{may_become, path_of, siblings};
use crate::checkpoint::{FileIdentity, Marker, OpenGeneration, Origin};
use crate::clock::Monotonic;
use crate::discover::Found;
use crate::frame::frames::Framing;

/// What became of a source's known generations.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Those that go on, the oldest first.
    pub followed: Vec<Followed>,
    /// Those that cannot, and why they are closed.
    pub gone: Vec<(OpenGeneration, &'static str)>,
    /// The streams of all of them.
    pub streams: HashSet<StreamId>,
    /// Streams whose last file lies no longer where it lay: others may have come and gone there.
    pub left: Vec<Left>,
}

/// A stream whose file left its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub stream: StreamId,
    /// Who that file is.
    pub last: FileIdentity,
}

impl Left {
    /// The stream of a file that is followed no more, or lies elsewhere.
    pub fn of(file: &Followed) -> Self {
        Self {
            stream: file.stream.clone(),
            last: file.identity().clone(),
        }
    }
}

/// Whether a generation is of this source.
pub fn is_of(open: &OpenGeneration, device: &DeviceId, source: &Source) -> bool {
    open.stream.device() == device.as_str() && open.stream.source() == source.plan.id.as_str()
}

/// Looks for the file of each known generation of a source. `index`: the source's; `found`: what
/// its globs lead to now.
pub fn resume(
    device: &DeviceId,
    source: &Source,
    index: usize,
    known: &[OpenGeneration],
    (found, open_max): (&Found, usize),
    now: Monotonic,
) -> Resumed {
    let mut ours: Vec<_> = (known.iter())
        .filter(|open| is_of(open, device, source))
        .filter_map(|open| match &open.origin {
            Origin::File(identity) => Some((open, identity)),
            Origin::Sensor => None,
        })
        .collect();
    // Where two could be one file, the one of which more is known comes first.
    ours.sort_by_key(|(open, identity)| Reverse((identity.fingerprint_len, open.settled)));
    let mut taken = HashSet::new();
    let mut located: Vec<Option<Opened>> = Vec::new();
    for (open, identity) in &ours {
        let file = by_place(identity, open.marker.as_ref(), found)
            .filter(|file| !taken.contains(&file.place()));
        taken.extend(file.as_ref().map(Opened::place));
        // There may be more of them than files can be open.
        let is_surplus = located.len() >= open_max;
        located.push(file.map(|mut file| {
            if is_surplus {
                file.park();
            }
            file
        }));
    }
    for ((open, identity), file) in ours.iter().zip(&mut located) {
        if file.is_none() {
            *file = by_content(identity, open.marker.as_ref(), &taken);
            taken.extend(file.as_ref().map(Opened::place));
        }
    }
    let (mut resumed, mut youngest) = (Resumed::default(), Vec::new());
    for ((open, identity), file) in ours.iter().zip(located) {
        resumed.streams.insert(open.stream.clone());
        let stays = file
            .as_ref()
            .is_some_and(|file| file.path == path_of(identity));
        note_youngest(&mut youngest, open, identity, stays);
        let framing = &source.plan.framing;
        match take_up((index, framing), open, identity, file, now) {
            Ok(file) => resumed.followed.push(file),
            Err(reason) => resumed.gone.push(((*open).clone(), reason)),
        }
    }
    let left = youngest.into_iter().filter(|(_, stays)| !stays);
    resumed.left = left.map(|(left, _)| left).collect();
    resumed.followed.sort_by_key(Followed::since_ms);
    resumed
}

/// Of each stream the file that was changed last counts, and whether it lies where it lay.
fn note_youngest(
    youngest: &mut Vec<(Left, bool)>,
    open: &OpenGeneration,
    last: &FileIdentity,
    stays: bool,
) {
    let known = youngest
        .iter_mut()
        .find(|(left, _)| left.stream == open.stream);
    match known {
        Some((left, stay)) if left.last.since_ms <= last.since_ms => {
            (left.last, *stay) = (last.clone(), stays);
        }
        Some(_) => {}
        None => {
            let left = Left {
                stream: open.stream.clone(),
                last: last.clone(),
            };
            youngest.push((left, stays));
        }
    }
}

fn take_up(
    (index, framing): (usize, &Framing),
    open: &OpenGeneration,
    identity: &FileIdentity,
    file: Option<Opened>,
    now: Monotonic,
) -> Result<Followed, &'static str> {
    let at_path = || Opened::new(&path_of(identity)).ok();
    let Some(file) = file else {
        let is_cut = at_path().is_some_and(|file| file.is_at(identity) && file.size < least(open));
        return Err(if is_cut {
            reason::TRUNCATED
        } else {
            reason::VANISHED
        });
    };
    if file.size < least(open) {
        return Err(reason::TRUNCATED);
    }
    // The original lies there still, or its inode does: what was written to it between the copy
    // and the cut is in neither. A compressor leaves no original.
    let is_copy = !file.is_packed()
        && file.inode != identity.inode
        && at_path().is_some_and(|file| file.inode == identity.inode);
    match Followed::new(index, framing, file, open, now) {
        Ok(mut file) => {
            if is_copy {
                file.note_copied();
            }
            tracing::info!(
                "{}: generation {} goes on at offset {}, in {}",
                open.stream,
                open.generation,
                open.settled,
                file.path().display()
            );
            Ok(file)
        }
        Err(error) => {
            tracing::warn!("{}: cannot be read any more: {error}", open.stream);
            Err(reason::VANISHED)
        }
    }
}

/// Below this length it was cut short: so much of it was there.
fn least(open: &OpenGeneration) -> u64 {
    let marked = open.marker.map_or(0, |marker| marker.end);
    (open.settled.max(marked)).max(open.skip_to.unwrap_or(0))
}

/// Looks for the inode: where it lay, then beside that, then wherever the globs lead.
pub(super) fn by_place(
    known: &FileIdentity,
    marker: Option<&Marker>,
    found: &Found,
) -> Option<Opened> {
    let path = path_of(known);
    let beside = (path.parent())
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.ino() == known.inode)
        .map(|entry| entry.path());
    let matched = (found.files.iter())
        .filter(|seen| seen.inode == known.inode)
        .map(|seen| seen.path.clone());
    [path.clone()]
        .into_iter()
        .chain(beside)
        .chain(matched)
        .filter(|path| path.is_file())
        .filter_map(|path| Opened::new(&path).ok())
        .find_map(|mut file| (file.is_at(known) && file.has(marker)).then_some(file))
}

/// Looks for the content, among the rotated files beside where it lay. Where several hold it, none of
/// which says more, it is the oldest: what is younger came after it, and is read too.
pub(super) fn by_content(
    known: &FileIdentity,
    marker: Option<&Marker>,
    taken: &HashSet<(u64, u64)>,
) -> Option<Opened> {
    let path = path_of(known);
    (siblings(&path).into_iter())
        .filter(|rotated| rotated.modified_ms() >= known.since_ms)
        .map(|rotated| rotated.file)
        .filter(|sibling| may_become(&path, &sibling.path))
        .filter(|sibling| !taken.contains(&sibling.place))
        .filter_map(|sibling| Opened::new(&sibling.path).ok())
        .find_map(|mut file| file.holds(known, marker).then_some(file))
}
