//! Markers of earlier checkpoints of a file: which are kept. Pure.
//!
//! A program writes its log without waiting for the disk, so a power cut may take back its last seconds, which were
//! read, and even settled. The last marker is not found then; but an earlier one is. Kept are some, the nearest close
//! to each other and the farther ones farther apart: so the one that is found lies not much farther back than the
//! file was cut.

use super::Marker;

/// How many are kept of a file: 16 bytes each on the disk. Of a file of 100 MB of which 10 kB are read between two
/// checkpoints, each is then some four times as far back as the one before it.
const EARLIER_MAX: usize = 8;

/// What is kept, rising, once `last` is followed by a marker at `end`.
pub fn keep(earlier: &mut Vec<Marker>, last: Marker, end: u64) {
    let newest = earlier.last().map_or(0, |marker| marker.end);
    if last.end <= newest || last.end >= end {
        return;
    }
    earlier.push(last);
    if earlier.len() > EARLIER_MAX {
        let back = |nth: usize| u128::from(end - earlier[nth].end.min(end));
        // The one between whose neighbours the distance grows least; the newest and the oldest stay.
        let least = (1..earlier.len() - 1).min_by(|a, b| {
            let (a, b) = ((back(a - 1), back(a + 1)), (back(b - 1), back(b + 1)));
            (a.0 * b.1).cmp(&(b.0 * a.1))
        });
        if let Some(nth) = least {
            earlier.remove(nth);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marker(end: u64) -> Marker {
        Marker {
            end,
            len: 0,
            sum: 0,
        }
    }

    fn kept(ends: &[u64]) -> Vec<u64> {
        let mut earlier = Vec::new();
        for pair in ends.windows(2) {
            keep(&mut earlier, marker(pair[0]), pair[1]);
        }
        earlier.iter().map(|marker| marker.end).collect()
    }

    #[test]
    fn the_farther_back_the_farther_apart() {
        let ends: Vec<_> = (0..=1000).map(|n| n * 100).collect();
        let kept = kept(&ends);
        assert_eq!(kept.len(), EARLIER_MAX);
        assert_eq!((kept[0], kept[EARLIER_MAX - 1]), (100, 99_900));
        for pair in kept.windows(2) {
            let (older, newer) = (100_000 - pair[0], 100_000 - pair[1]);
            assert!(older <= 8 * newer, "{kept:?}");
        }
    }

    #[test]
    fn where_nothing_was_read_nothing_is_kept() {
        assert_eq!(kept(&[0, 0, 5, 5, 5, 9]), [5]);
        // What is read anew from an earlier offset is not: markers rise.
        assert_eq!(kept(&[10, 20, 5, 30]), [10]);
    }

    proptest! {
        #[test]
        fn they_rise_and_are_bounded(steps in prop::collection::vec(0_u64..1 << 50, 2..200)) {
            let mut end = 0;
            let ends: Vec<_> = steps.iter().map(|step| { end += step; end }).collect();
            let kept = kept(&ends);
            prop_assert!(kept.len() <= EARLIER_MAX);
            prop_assert!(kept.is_sorted());
            prop_assert!(kept.iter().all(|kept| ends.contains(kept) && *kept < end));
        }
    }
}
