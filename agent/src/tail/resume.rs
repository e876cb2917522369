//! Finds the files of known generations again after a restart: where they lay, or rotated away from
//! there while nobody looked, compressed maybe, or copied before the original was cut.
//!
//! First by place (device and inode) and content, all of them; what is left by content alone, among
//! the rotated files beside where it lay. Nothing is taken twice.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs::File;

use headwater_record::notice::reason::{self, TRUNCATED};
use headwater_record::{DeviceId, Generation, StreamId};

use super::desk::Source;
use super::locate::{Located, by_content, by_earlier, by_place};
use super::opened::Opened;
use super::reader::Followed;
use super::siblings::path_of;
use crate::checkpoint::{FileIdentity, Knowledge, Marker, OpenGeneration, Origin};
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
    /// Those of which that cannot be told now: whether each is its stream's last file, and why.
    pub away: Vec<(OpenGeneration, bool, String)>,
    /// The streams of all of them.
    pub streams: HashSet<StreamId>,
    /// Files that a power cut made shorter, by their place: they are new ones, of which was read before what lies
    /// before the marker; and where reading goes on.
    pub cut_short: HashMap<(u64, u64), (Marker, u64)>,
    /// Streams whose last file lies no longer where it lay: others may have come and gone there.
    pub left: Vec<Left>,
}

/// A file that was cut short: its device and inode, and an earlier marker that is found in it, and where it goes on.
type CutShort = ((u64, u64), (Marker, u64));

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
/// its globs lead to now; `nameless`: files that nothing leads to any more, of which its own are taken.
pub fn resume(
    device: &DeviceId,
    source: &Source,
    index: usize,
    known: &Knowledge,
    (found, nameless, open_max): (&Found, &mut HashMap<Generation, File>, usize),
    now: Monotonic,
) -> Resumed {
    let ours = ours_of(device, source, &known.open);
    // Those that nothing tells but their inodes come last: what lies there may be a copy of another.
    let by_inode = ours.partition_point(|(_, identity)| identity.fingerprint_len > 0);
    let (mut taken, mut held) = (HashSet::new(), HashSet::new());
    let mut located: Vec<Located> = Vec::new();
    for ours in [&ours[..by_inode], &ours[by_inode..]] {
        let first = located.len();
        for (open, identity) in ours {
            let mut file = by_place(identity, open.farthest().marker.as_ref(), found)
                .map(|file| file.filter(|file| !taken.contains(&file.place())));
            if let Ok(Some(file)) = &mut file {
                taken.insert(file.place());
                file.content.stop_decoding();
                // There may be more of them than files can be open.
                if located.len() >= open_max {
                    file.park();
                }
            }
            located.push(file);
        }
        for ((open, identity), file) in ours.iter().zip(&mut located[first..]) {
            // Under whichever of its generations it was followed last.
            let mut names = open.chain().map(|open| open.generation);
            let nameless = names.find_map(|name| nameless.remove(&name));
            if matches!(file, Ok(Some(_))) {
                continue;
            }
            if let Some(mut is_it) = nameless.and_then(|file| still_held(open, identity, file)) {
                is_it.content.stop_decoding();
                held.insert(open.generation);
                *file = Ok(Some(is_it));
                continue;
            }
            if matches!(file, Ok(None)) {
                *file = by_content(identity, open.farthest().marker.as_ref(), &taken);
                if let Ok(Some(file)) = file {
                    file.content.stop_decoding();
                }
                taken.extend(file.iter().flatten().map(Opened::place));
            }
        }
    }
    let youngest = youngest_of(&ours, &located, &held);
    let shorter = match known.rebooted {
        true => cut_short(&ours, &located, found, &mut taken),
        false => HashMap::new(),
    };
    let mut resumed = Resumed::default();
    for ((open, identity), file) in ours.iter().zip(located) {
        resumed.streams.insert(open.stream.clone());
        let framing = &source.plan.framing;
        match take_up((index, framing), open, identity, file, now) {
            TakenUp::Followed(mut file) => {
                file.stop_decoding();
                resumed.followed.push(*file);
            }
            TakenUp::Gone(reason) => {
                let is_shorter = shorter.contains_key(&open.generation);
                let reason = if is_shorter { TRUNCATED } else { reason };
                resumed.gone.push(((*open).clone(), reason));
            }
            TakenUp::Away(why) => {
                let is_youngest = youngest.iter().any(|(left, _)| left.last == **identity);
                resumed.away.push(((*open).clone(), is_youngest, why));
            }
        }
    }
    let left = youngest.into_iter().filter(|(_, stays)| !stays);
    resumed.left = left.map(|(left, _)| left).collect();
    resumed.cut_short = shorter.into_values().collect();
    resumed.followed.sort_by_key(Followed::since_ms);
    resumed
}

/// The generations of a source's files. Where two could be one file, the one of which more is known comes first.
fn ours_of<'a>(
    device: &DeviceId,
    source: &Source,
    known: &'a [OpenGeneration],
) -> Vec<(&'a OpenGeneration, &'a FileIdentity)> {
    let mut ours: Vec<_> = (known.iter())
        .filter(|open| is_of(open, device, source))
        .filter_map(|open| match &open.origin {
            Origin::File(identity) => Some((open, identity)),
            Origin::Sensor => None,
        })
        .collect();
    ours.sort_by_key(|(open, identity)| Reverse((identity.fingerprint_len, open.settled)));
    ours
}

/// Of the files that were not found, those that a power cut made shorter, by their generation: where each lies,
/// and where it goes on.
fn cut_short(
    ours: &[(&OpenGeneration, &FileIdentity)],
    located: &[Located],
    found: &Found,
    taken: &mut HashSet<(u64, u64)>,
) -> HashMap<Generation, CutShort> {
    let mut shorter = HashMap::new();
    let gone = (ours.iter().zip(located)).filter(|(_, file)| matches!(file, Ok(None)));
    for ((open, identity), _) in gone {
        let farthest = open.farthest();
        let markers = (farthest.marker.as_ref(), farthest.earlier.as_slice());
        if let Some((place, marker)) = by_earlier(identity, markers, found, taken) {
            taken.insert(place);
            // What was read and is not settled is still to be given.
            let cut = (place, (marker, marker.end.min(open.settled_to())));
            shorter.insert(open.generation, cut);
        }
    }
    shorter
}

/// The file of a known generation that was held open, and that nothing leads to any more.
fn still_held(open: &OpenGeneration, identity: &FileIdentity, file: File) -> Option<Opened> {
    let mut file = Opened::of(file, &path_of(identity)).ok()?;
    // Nothing lies there, or another file: links at the path are not its own.
    file.path = path_of(identity);
    let marker = open.farthest().marker.as_ref();
    (file.is_at(identity, marker) && file.has(marker)).then_some(file)
}

/// Looks for the file of one known generation: by place, then by content. `taken`: files that are of
/// other generations.
///
/// # Errors
/// It cannot be told.
pub(super) fn locate(
    open: &OpenGeneration,
    identity: &FileIdentity,
    found: &Found,
    taken: &HashSet<(u64, u64)>,
) -> Located {
    let marker = open.farthest().marker.as_ref();
    let file = by_place(identity, marker, found)?;
    match file.filter(|file| !taken.contains(&file.place())) {
        None => by_content(identity, marker, taken),
        file => Ok(file),
    }
}

/// The last file of each stream, and whether it lies where it lay. `held`: those that nothing leads to.
fn youngest_of(
    ours: &[(&OpenGeneration, &FileIdentity)],
    located: &[Located],
    held: &HashSet<Generation>,
) -> Vec<(Left, bool)> {
    let mut youngest = Vec::new();
    for ((open, identity), file) in ours.iter().zip(located) {
        // Out of reach, it may lie there still.
        let stays = !held.contains(&open.generation)
            && (file.as_ref()).is_ok_and(|file| {
                (file.as_ref()).is_some_and(|file| file.path == path_of(identity))
            });
        note_youngest(&mut youngest, open, identity, stays || file.is_err());
    }
    youngest
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

/// What becomes of a known generation.
#[derive(Debug)]
pub(super) enum TakenUp {
    /// It goes on.
    Followed(Box<Followed>),
    /// It is closed, and why.
    Gone(&'static str),
    /// It waits, and why.
    Away(String),
}

/// Goes on with a known generation, where its file was found.
pub(super) fn take_up(
    (index, framing): (usize, &Framing),
    open: &OpenGeneration,
    identity: &FileIdentity,
    located: Located,
    now: Monotonic,
) -> TakenUp {
    let at_path = || Opened::new(&path_of(identity)).ok();
    let file = match located {
        Ok(Some(file)) => file,
        Ok(None) => {
            let marker = open.farthest().marker.as_ref();
            let is_cut = at_path()
                .is_some_and(|file| file.is_at(identity, marker) && file.size < least(open));
            return TakenUp::Gone(if is_cut { TRUNCATED } else { reason::VANISHED });
        }
        Err(why) => return TakenUp::Away(why.to_string()),
    };
    if file.size < least(open) {
        return TakenUp::Gone(TRUNCATED);
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
            TakenUp::Followed(Box::new(file))
        }
        Err(error) => TakenUp::Away(format!(
            "cannot read {}: {error}",
            path_of(identity).display()
        )),
    }
}

/// Below this length it was cut short: so much of it was there.
fn least(open: &OpenGeneration) -> u64 {
    let open = open.farthest();
    let marked = open.marker.map_or(0, |marker| marker.end);
    (open.settled.max(marked)).max(open.skip_to.unwrap_or(0))
}
