//! Finds the files of known generations again after a restart: where they lay, or rotated away from
//! there while nobody looked.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use headwater_record::notice::reason;
use headwater_record::{DeviceId, StreamId};

use super::desk::Source;
use super::opened::Opened;
use super::reader::Followed;
use crate::checkpoint::{FileIdentity, Marker, OpenGeneration, Origin};
use crate::clock::Monotonic;
use crate::discover::Found;

/// Most names of one folder among which a rotated file is searched.
const SIBLINGS_MAX: usize = 10_000;

/// What became of a source's known generations.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Those that go on.
    pub followed: Vec<Followed>,
    /// Those that cannot, and why they are closed.
    pub gone: Vec<(OpenGeneration, &'static str)>,
    /// The streams of all of them.
    pub streams: HashSet<StreamId>,
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
    found: &Found,
    now: Monotonic,
) -> Resumed {
    let mut resumed = Resumed::default();
    let mut taken = HashSet::new();
    let mut ours: Vec<_> = (known.iter())
        .filter(|open| is_of(open, device, source))
        .filter_map(|open| match &open.origin {
            Origin::File(identity) => Some((open, identity)),
            Origin::Sensor => None,
        })
        .collect();
    // Where two could be one file, the one of which more is known comes first.
    ours.sort_by_key(|(open, identity)| Reverse((identity.fingerprint_len, open.settled)));
    for (open, identity) in ours {
        resumed.streams.insert(open.stream.clone());
        let located = locate(identity, open.marker.as_ref(), found);
        let reason = match located.filter(|file| !taken.contains(&(file.device, file.inode))) {
            None => reason::VANISHED,
            Some(file) if file.size < least(open) => reason::TRUNCATED,
            Some(file) => {
                taken.insert((file.device, file.inode));
                match Followed::new(index, file, open, now) {
                    Ok(file) => {
                        tracing::info!(
                            "{}: generation {} goes on at offset {}, in {}",
                            open.stream,
                            open.generation,
                            open.settled,
                            file.path().display()
                        );
                        resumed.followed.push(file);
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!("{}: cannot be read any more: {error}", open.stream);
                        reason::VANISHED
                    }
                }
            }
        };
        resumed.gone.push((open.clone(), reason));
    }
    resumed
}

/// Below this length it was cut short: so much of it was there.
fn least(open: &OpenGeneration) -> u64 {
    let marked = open.marker.map_or(0, |marker| marker.end);
    (open.settled.max(marked)).max(open.skip_to.unwrap_or(0))
}

/// Looks for a known file: where it lay, then beside that, then wherever the globs lead.
fn locate(known: &FileIdentity, marker: Option<&Marker>, found: &Found) -> Option<Opened> {
    let path = Path::new(OsStr::from_bytes(&known.path));
    let siblings = (path.parent())
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .take(SIBLINGS_MAX)
        .flatten()
        .filter(|entry| entry.ino() == known.inode)
        .map(|entry| entry.path());
    let matched = (found.files.iter())
        .filter(|seen| seen.inode == known.inode)
        .map(|seen| seen.path.clone());
    [path.to_owned()]
        .into_iter()
        .chain(siblings)
        .chain(matched)
        .filter(|path| path.is_file())
        .filter_map(|path| Opened::new(&path).ok())
        .find(|file| file.is(known, marker.filter(|_| !file.is_shorter(marker))))
}
