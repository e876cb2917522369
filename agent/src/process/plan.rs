//! What one source does with its lines, and what was counted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_record::steps::Steps;
use serde::{Deserialize, Serialize};

use super::Tally;

/// What the value of a record is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A JSON object that any consumer can read alone.
    #[default]
    Json,
    /// The line's bytes, as they lie in the file.
    Raw,
}

/// What one source does with its lines.
#[derive(Debug, Clone, Default)]
pub struct ProcessPlan {
    /// What its records' values are.
    pub form: Form,
    /// The steps, in order. Where values are raw they decide which lines go, and cover what must not leave.
    pub steps: Steps,
    /// Equal lines, one after the other, are counted for so long before they are told as one.
    pub repeats: Option<Duration>,
    /// Most records of a stream.
    pub rate_limit: Option<RateLimit>,
    /// What was counted of it since the start.
    pub counters: Arc<Counters>,
}

impl PartialEq for ProcessPlan {
    /// What was counted does not count.
    fn eq(&self, other: &Self) -> bool {
        let of = |plan: &Self| (plan.form, plan.repeats, plan.rate_limit);
        self.steps == other.steps && of(self) == of(other)
    }
}

/// Most records of a stream in a stretch of time; what is above is cut, and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// So many.
    pub records: u32,
    /// In such a stretch.
    pub per: Duration,
}

impl ProcessPlan {
    /// Whether a line becomes a record as it is.
    pub fn is_plain(&self) -> bool {
        self.steps.is_empty() && !self.has_gates()
    }

    /// Whether a line's fate depends on more than the line.
    pub fn has_gates(&self) -> bool {
        self.repeats.is_some() || self.rate_limit.is_some()
    }
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lines that steps dropped.
    pub filtered: AtomicU64,
    /// Lines that a `parse` step could not read.
    pub unparsed: AtomicU64,
    /// Lines that repeated the one before them.
    pub repeated: AtomicU64,
    /// Records that a rate limit cut.
    pub limited: AtomicU64,
    /// Records that the steps made larger than Kafka takes.
    pub too_large: AtomicU64,
}

impl Counters {
    /// What they say now.
    pub fn tally(&self) -> Tally {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            filtered: of(&self.filtered),
            unparsed: of(&self.unparsed),
            repeated: of(&self.repeated),
            limited: of(&self.limited),
            too_large: of(&self.too_large),
        }
    }

    /// Adds what came of some lines.
    pub fn add(&self, tally: Tally) {
        for (counter, count) in [
            (&self.filtered, tally.filtered),
            (&self.unparsed, tally.unparsed),
            (&self.repeated, tally.repeated),
            (&self.limited, tally.limited),
            (&self.too_large, tally.too_large),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}
