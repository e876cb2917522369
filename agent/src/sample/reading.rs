//! What a sensor said, when, and how good that is.

use crate::clock::Moment;

/// How good a reading is. In order: where several readings become one, the worst is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// As the sensor gave it.
    #[default]
    Ok,
    /// Its file was written longer ago than `stale_after`.
    Stale,
    /// Outside of `min` and `max`; the value is told all the same.
    Range,
    /// The sensor's own check sum does not fit: there is no value.
    Crc,
    /// There is nothing to read, or it is no number: there is no value.
    Missing,
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The value, in the sensor's unit; none where the quality says so.
    pub value: Option<f64>,
    /// How good it is.
    pub quality: Quality,
}

/// A reading, and when it was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// What was read.
    pub reading: Reading,
    /// When.
    pub moment: Moment,
}

impl Reading {
    /// A reading that is as it should be.
    pub fn ok(value: f64) -> Self {
        Self {
            value: Some(value),
            quality: Quality::Ok,
        }
    }

    /// None, for a reason.
    pub fn none(quality: Quality) -> Self {
        Self {
            value: None,
            quality,
        }
    }
}

/// What configuration makes of a raw number.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// Factor.
    pub scale: f64,
    /// Added to the product.
    pub offset: f64,
    /// Below it a value is out of range.
    pub min: Option<f64>,
    /// Above it a value is out of range.
    pub max: Option<f64>,
}

impl Conversion {
    /// The value of a raw number, and whether it can be one.
    pub fn reading(&self, raw: f64) -> Reading {
        let value = raw * self.scale + self.offset;
        if !value.is_finite() {
            return Reading::none(Quality::Missing);
        }
        let low = self.min.is_some_and(|min| value < min);
        let high = self.max.is_some_and(|max| value > max);
        Reading {
            value: Some(value),
            quality: if low || high {
                Quality::Range
            } else {
                Quality::Ok
            },
        }
    }
}

impl Quality {
    /// As records say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::Range => "range",
            Self::Crc => "crc",
            Self::Missing => "missing",
        }
    }
}
