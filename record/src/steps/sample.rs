//! Keeps a part of the rows: which ones depends on the rows alone.
//!
//! Not chance but a hash decides, of what stands for the row (where it lies in its file) or of the
//! value of a field: all rows of one request, say, are then kept or dropped together. So a row that
//! is read again after a crash meets the same fate.

use serde::{Deserialize, Serialize};

use super::field::{Shown, get};
use super::{Row, StepError};

/// `sample`, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleFile {
    /// Which part is kept: above 0, at most 1.
    pub rate: f64,
    /// Rows of one value of this field are kept or dropped together; a missing one is a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// `sample`, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    rate: f64,
    field: Option<String>,
}

impl Sample {
    /// Makes it ready.
    ///
    /// # Errors
    /// The rate is no part of 1.
    pub fn new(file: &SampleFile) -> Result<Self, StepError> {
        if !(file.rate > 0.0 && file.rate <= 1.0) {
            return Err(StepError::Rate(file.rate.to_string()));
        }
        Ok(Self {
            rate: file.rate,
            field: file.field.clone(),
        })
    }

    /// Whether the row is of the part that is kept.
    pub fn keeps(&self, row: &Row, seed: u64) -> bool {
        let seed = match &self.field {
            None => seed,
            Some(field) => fnv1a(Shown(get(row, field)).to_string().as_bytes()),
        };
        // 53 bits: as many as a double tells apart below 1.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let place = (mixed(seed) >> 11) as f64 / (1_u64 << 53) as f64;
        place < self.rate
    }
}

/// Fowler, Noll, Vo: FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): neighbouring numbers end far apart.
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64, field: Option<&str>) -> Sample {
        Sample::new(&SampleFile {
            rate,
            field: field.map(Into::into),
        })
        .unwrap()
    }

    #[test]
    fn about_the_rate_is_kept_and_always_the_same() {
        let row = Row::new();
        for (rate, kept) in [
            (1.0, 10_000..=10_000),
            (0.1, 900..=1100),
            (0.5, 4800..=5200),
        ] {
            let sample = sample(rate, None);
            let count = || (0..10_000).filter(|n| sample.keeps(&row, n * 187)).count();
            assert!(kept.contains(&count()), "{rate}: {}", count());
            assert_eq!(count(), count());
        }
    }

    #[test]
    fn rows_of_one_value_stay_together() {
        let by_id = sample(0.5, Some("id"));
        let kept = (0..1000).filter(|id| {
            let mut row = Row::new();
            row.insert("id".into(), (*id).into());
            let first = by_id.keeps(&row, 0);
            assert!((1..20).all(|seed| by_id.keeps(&row, seed) == first));
            first
        });
        assert!((400..600).contains(&kept.count()));
    }

    #[test]
    fn a_rate_is_a_part_of_one() {
        for rate in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Sample::new(&SampleFile { rate, field: None }).is_err());
        }
    }
}
