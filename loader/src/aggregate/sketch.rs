//! What cannot be kept exactly in bounded memory: quantiles and distinct counts. Both are functions
//! of the set of values alone, in whatever order they came, and use whole numbers only: a batch that
//! is made again on another machine gives the same bytes. For the same reason two sketches can be put together
//! (`merge`), exactly: what comes of it is the sketch of all the values of both, so it is commutative and
//! associative, and as far off as one sketch is.
//!
//! - **Quantiles**: counts by size, each class a 32nd of a power of two wide, read from the bits of
//!   the number (as in HDR histograms): what is given back is within 1.6 % of the value of that rank.
//! - **Distinct**: the [`KEPT`] smallest hashes (k minimum values): exact below that, then an estimate
//!   with a standard error of 3.1 %.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Classes of one sketch at most; above it the smallest sizes are joined, so that the largest, which
/// are asked for, stay true. 1024 are 32 powers of two.
const CLASSES: usize = 1024;
/// Bits of the fraction that tell classes apart: 32 to a power of two.
const FRACTION_BITS: u32 = 5;
/// Bits of a double's fraction.
const MANTISSA_BITS: u32 = 52;
/// Memory of one class and of one hash in their trees, about.
const CLASS_BYTES: usize = 32;
const HASH_BYTES: usize = 16;
/// Hashes kept for a distinct count.
pub(super) const KEPT: usize = 1024;

/// How many values of each size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quantiles {
    /// By class; negative ones for negative numbers, 0 for zero.
    classes: BTreeMap<i32, u64>,
}

impl Quantiles {
    /// Takes a value. Bytes of memory that it brought, about.
    pub(super) fn add(&mut self, value: f64) -> usize {
        let before = self.classes.len();
        *self.classes.entry(class(value)).or_default() += 1;
        self.bound();
        (self.classes.len().saturating_sub(before)) * CLASS_BYTES
    }

    /// Takes in all values of another one. What was joined lies in the smallest class, of each of them: it is below
    /// what both keep, as if all had come to one.
    pub(super) fn merge(&mut self, other: Self) {
        for (class, count) in other.classes {
            let held = self.classes.entry(class).or_default();
            *held = held.saturating_add(count);
        }
        self.bound();
    }

    fn bound(&mut self) {
        while self.classes.len() > CLASSES {
            self.join_smallest();
        }
    }

    /// Memory, about, bytes.
    pub(super) fn held(&self) -> usize {
        self.classes.len() * CLASS_BYTES
    }

    /// Joins the two classes of the smallest size.
    fn join_smallest(&mut self) {
        let smallest = self.smallest();
        let count = smallest.and_then(|class| self.classes.remove(&class));
        if let (Some(next), Some(count)) = (self.smallest(), count) {
            *self.classes.entry(next).or_default() += count;
        }
    }

    /// The class of the smallest size; of two, the negative one.
    fn smallest(&self) -> Option<i32> {
        let below = self.classes.range(..0).next_back();
        let above = self.classes.range(0..).next();
        let classes = below.into_iter().chain(above).map(|(class, _)| *class);
        classes.min_by_key(|class| class.unsigned_abs())
    }

    /// The value below which the part `q` (0 to 1) of all lie; none where there are none.
    pub(super) fn at(&self, q: f64) -> Option<f64> {
        let total: u64 = self.classes.values().sum();
        let last = total.checked_sub(1)?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank; q is within 0 and 1"
        )]
        let rank = ((last as f64 * q).round() as u64).min(last);
        let mut below = 0;
        for (class, count) in &self.classes {
            below += count;
            if below > rank {
                return Some(middle(*class));
            }
        }
        None
    }
}

/// The class of a number: its sign, its exponent and the head of its fraction.
fn class(value: f64) -> i32 {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    let size = value.abs().to_bits() >> (MANTISSA_BITS - FRACTION_BITS);
    // 11 bits of exponent and 5 of fraction: never more than 65535.
    let size = i32::try_from(size).unwrap_or(i32::MAX - 1) + 1;
    if value < 0.0 { -size } else { size }
}

/// The middle of a class.
fn middle(class: i32) -> f64 {
    if class == 0 {
        return 0.0;
    }
    let size = u64::from(class.unsigned_abs() - 1) << (MANTISSA_BITS - FRACTION_BITS);
    let half = 1_u64 << (MANTISSA_BITS - FRACTION_BITS - 1);
    let value = f64::from_bits(size | half);
    if class < 0 { -value } else { value }
}

/// Hashes of the values seen, the smallest of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Distinct {
    smallest: BTreeSet<u64>,
    /// Whether any was given up: the count is an estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    full: bool,
}

impl Distinct {
    /// Takes a value, as its JSON text. Bytes of memory that it brought, about.
    pub(super) fn add(&mut self, text: &str) -> usize {
        let before = self.smallest.len();
        let digest = Sha256::digest(text.as_bytes());
        let hash = digest
            .iter()
            .take(8)
            .fold(0, |hash, byte| (hash << 8) | u64::from(*byte));
        self.smallest.insert(hash);
        self.bound();
        (self.smallest.len().saturating_sub(before)) * HASH_BYTES
    }

    /// Takes in all values of another one: the smallest hashes of both are among those that each kept.
    pub(super) fn merge(&mut self, other: Self) {
        self.full |= other.full;
        self.smallest.extend(other.smallest);
        self.bound();
    }

    fn bound(&mut self) {
        while self.smallest.len() > KEPT {
            self.smallest.pop_last();
            self.full = true;
        }
    }

    /// Memory, about, bytes.
    pub(super) fn held(&self) -> usize {
        self.smallest.len() * HASH_BYTES
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        let kept = self.smallest.len() as u64;
        let Some(largest) = self.smallest.last().filter(|_| self.full) else {
            return kept;
        };
        // (k - 1) / (share of the range of hashes that the k smallest take)
        let count = u128::from(kept - 1) * (u128::from(u64::MAX) + 1) / (u128::from(*largest) + 1);
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_within_their_error() {
        let mut sketch = Quantiles::default();
        assert_eq!(sketch.at(0.5), None);
        for n in 1..=10_000 {
            sketch.add(f64::from(n) / 10.0);
        }
        for (q, value) in [(0.0, 0.1), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = sketch.at(q).unwrap();
            assert!((got / value - 1.0).abs() < 0.016, "{q}: {got}, not {value}");
        }
    }

    #[test]
    fn quantiles_of_both_signs_and_every_size_stay_bounded() {
        let mut sketch = Quantiles::default();
        for value in [-3.0, 0.0, 5.0, f64::MAX, f64::MIN_POSITIVE, -0.0] {
            sketch.add(value);
        }
        assert!(sketch.at(0.0).unwrap() < -2.9);
        assert!(sketch.at(1.0).unwrap() > 1e308);
        let mut exponent = 1e-300;
        while exponent < 1e300 {
            sketch.add(exponent);
            exponent *= 1.01;
        }
        assert_eq!(sketch.classes.len(), CLASSES);
        assert!(sketch.at(1.0).unwrap() > 1e308, "the largest stay true");
    }

    #[test]
    fn distinct_counts_are_exact_and_then_near() {
        let mut few = Distinct::default();
        for n in 0..3000 {
            few.add(&(n % 700).to_string());
        }
        assert_eq!(few.count(), 700);
        let mut many = Distinct::default();
        for n in 0..100_000 {
            many.add(&n.to_string());
        }
        let error = many.count().abs_diff(100_000);
        assert!(error < 10_000, "{error}");
        assert_eq!(many.smallest.len(), KEPT);
    }

    proptest! {
        #[test]
        fn a_class_holds_its_middle(value in prop::num::f64::NORMAL) {
            let there = middle(class(value));
            prop_assert_eq!(class(there), class(value));
            prop_assert!((there / value - 1.0).abs() <= 1.0 / 64.0);
        }

        /// With far more classes and hashes than are kept: sizes from 1e-300 to 1e300, of both signs.
        #[test]
        fn sketches_put_together_are_the_sketch_of_all(
            seed in any::<u64>(), count in 0_usize..6000, cuts in prop::array::uniform2(0_usize..6000),
        ) {
            let values: Vec<f64> = (0..count as u64)
                .map(|n| {
                    let mixed = (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let power = i32::try_from(mixed % 600).unwrap() - 300;
                    let sign = if mixed & (1 << 40) == 0 { 1.0 } else { -1.0 };
                    sign * 10_f64.powi(power) * f64::from(u8::try_from(mixed >> 56).unwrap())
                })
                .collect();
            let of = |values: &[f64]| {
                let (mut quantiles, mut distinct) = (Quantiles::default(), Distinct::default());
                for value in values {
                    quantiles.add(*value);
                    distinct.add(&value.to_string());
                }
                (quantiles, distinct)
            };
            let merged = |a: &(Quantiles, Distinct), b: &(Quantiles, Distinct)| {
                let (mut quantiles, mut distinct) = a.clone();
                quantiles.merge(b.0.clone());
                distinct.merge(b.1.clone());
                (quantiles, distinct)
            };
            let [one, two] = cuts.map(|cut| cut.min(count));
            let (one, two) = (one.min(two), one.max(two));
            let all = of(&values);
            let (a, b, c) = (of(&values[..one]), of(&values[one..two]), of(&values[two..]));
            prop_assert_eq!(&merged(&merged(&a, &b), &c), &all);
            prop_assert_eq!(&merged(&a, &merged(&b, &c)), &all);
            prop_assert_eq!(&merged(&c, &merged(&b, &a)), &all);
        }

        #[test]
        fn order_does_not_matter(mut values in prop::collection::vec(-1e6..1e6_f64, 0..200)) {
            let all = |values: &[f64]| {
                let (mut quantiles, mut distinct) = (Quantiles::default(), Distinct::default());
                for value in values {
                    quantiles.add(*value);
                    distinct.add(&value.to_string());
                }
                (quantiles, distinct)
            };
            let before = all(&values);
            values.reverse();
            prop_assert_eq!(all(&values), before);
        }
    }
}
