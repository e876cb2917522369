//! Few compressed files are decoded at a time: each takes up to 8 MiB, however many a glob matches.
//!
//! The first in the order of turns (by lane, then as they are followed) that is to be read has it, and goes on to its end; the others wait for that,
//! as do younger files of their streams. Plain files do not. Where an earlier one comes to need it, it takes it from
//! a later one, which begins anew when its turn comes: so the first never waits, and after it the next is the first.

use super::desk::Source;
use super::packed::DECODING_MAX;
use super::reader::Followed;
use crate::clock::Monotonic;
use crate::spool::Lane;

/// Has few of these files keep what decoding takes: the first ones. Between passes, where files are looked at to know
/// them.
pub(super) fn bound_decoding(files: &mut [Followed], sources: &[Source]) {
    let mut left = DECODING_MAX;
    for lane in Lane::ALL {
        let of_lane = files
            .iter_mut()
            .filter(|file| sources[file.source].plan.lane == lane);
        for file in of_lane.filter(|file| file.is_decoding()) {
            match left.checked_sub(1) {
                Some(fewer) => left = fewer,
                None => file.stop_decoding(),
            }
        }
    }
}

/// Whether the `nth` file, whose turn it is, may be decoded now. What holds it up goes before it and has a turn
/// itself; whoever comes later, or has none, gives it up.
pub(super) fn may_decode(
    files: &mut [Followed],
    nth: usize,
    sources: &[Source],
    now: Monotonic,
) -> bool {
    if !files[nth].would_decode() {
        return true;
    }
    let decoding = files.iter().filter(|file| file.is_decoding()).count();
    if decoding < DECODING_MAX {
        return true;
    }
    let place = (sources[files[nth].source].plan.lane, nth);
    let gives_up = |(other, file): &(usize, &mut Followed)| {
        let source = &sources[file.source];
        let goes_on = (source.plan.lane, *other) < place && file.has_turn(source, now);
        file.is_decoding() && !goes_on
    };
    match files.iter_mut().enumerate().find(gives_up) {
        Some((_, file)) => {
            file.stop_decoding();
            true
        }
        None => false,
    }
}
