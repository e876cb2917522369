//! How long records took, in bounded memory: counts by size, each class an eighth of a power of two wide,
//! so that what is given back is within 6.3 % of the delay of that rank; the greatest is exact. Whole
//! numbers only: the same delays in any order make the same value on every machine.
//!
//! Coarser than the quantiles of `aggregate`, and flat, for there is one for each device: 312 classes of 8
//! bytes at most, and never joined, since a device that was offline has delays of a second and of a day.

use serde::{Deserialize, Serialize};

/// Bits that tell the classes of a power of two apart.
const BITS: u32 = 3;
/// Delays above count as this: 69 years.
const MOST_MS: u64 = (1 << 41) - 1;

/// Delays, by size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delays {
    /// By class, each once, in order, with how many there were.
    classes: Vec<(u16, u32)>,
    max_ms: u64,
}

impl Delays {
    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    pub(super) fn add(&mut self, ms: u64) {
        let ms = ms.min(MOST_MS);
        self.max_ms = self.max_ms.max(ms);
        let class = class(ms);
        match self
            .classes
            .binary_search_by_key(&class, |(class, _)| *class)
        {
            Ok(at) => self.classes[at].1 = self.classes[at].1.saturating_add(1),
            Err(at) => self.classes.insert(at, (class, 1)),
        }
    }

    /// Memory beside its own size, bytes.
    pub(super) fn held(&self) -> usize {
        self.classes.len() * size_of::<(u16, u32)>()
    }

    pub(super) fn count(&self) -> u64 {
        self.classes
            .iter()
            .map(|(_, count)| u64::from(*count))
            .sum()
    }

    pub(super) fn max_ms(&self) -> u64 {
        self.max_ms
    }

    /// The delay that so many in a thousand do not exceed; none where there are none.
    pub(super) fn at(&self, permille: u64) -> Option<u64> {
        let last = self.count().checked_sub(1)?;
        let rank = u128::from(last) * u128::from(permille) / 1000;
        let mut below = 0;
        for (class, count) in &self.classes {
            below += u128::from(*count);
            if below > rank {
                return Some(middle(*class).min(self.max_ms));
            }
        }
        None
    }
}

fn class(ms: u64) -> u16 {
    // Below 16 each is a class of its own.
    let power = (ms | (1 << BITS)).ilog2();
    let shift = power - BITS;
    // 41 powers at most: never near the bound.
    u16::try_from((u64::from(shift) << BITS) + (ms >> shift)).unwrap_or(u16::MAX)
}

fn middle(class: u16) -> u64 {
    let class = u64::from(class);
    let shift = (class >> BITS).saturating_sub(1);
    let low = (class - (shift << BITS)) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_second_and_a_day() {
        let mut delays = Delays::default();
        assert_eq!(delays.at(500), None);
        (0..90).for_each(|_| delays.add(1000));
        (0..10).for_each(|_| delays.add(86_400_000));
        let near = |got: u64, want: u64| got.abs_diff(want) * 1000 <= want * 63;
        assert!(near(delays.at(500).unwrap(), 1000));
        assert!(near(delays.at(990).unwrap(), 86_400_000));
        assert_eq!((delays.count(), delays.max_ms()), (100, 86_400_000));
    }

    #[test]
    fn memory_is_bounded() {
        let mut delays = Delays::default();
        let mut ms = 1_u64;
        while ms < u64::MAX / 2 {
            delays.add(ms);
            ms += ms / 20 + 1;
        }
        delays.add(0);
        delays.add(u64::MAX);
        assert_eq!(delays.classes.len(), 312);
    }

    proptest! {
        #[test]
        fn a_class_holds_its_middle(ms in 0..=MOST_MS) {
            let there = middle(class(ms));
            prop_assert_eq!(class(there), class(ms));
            prop_assert!(there.abs_diff(ms) * 1000 <= ms * 63);
            prop_assert!(class(ms) <= class(ms + 1));
        }
    }
}
