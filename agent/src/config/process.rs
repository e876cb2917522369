//! What a source does with its lines: steps, repeats, rate limit, as written and as meant.

use headwater_msk::Period;
use headwater_record::steps::{RESERVED, StepFile, Steps};

use super::file;
use super::problems::Check;
use crate::process::{ProcessPlan, RateLimit};

impl Check {
    /// Checks `process`, `repeats` and `rate_limit` of the source at `key`.
    pub(super) fn process(
        &mut self,
        key: &str,
        written: Vec<StepFile>,
        repeats: Option<file::Repeats>,
        rate_limit: Option<file::RateLimit>,
    ) -> ProcessPlan {
        for (index, step) in written.iter().enumerate() {
            let made = match step {
                StepFile::Rename(rename) => Some(&rename.to),
                StepFile::Add(add) => Some(&add.field),
                StepFile::Parse(parse) => parse.into.as_ref(),
                _ => None,
            };
            if let Some(name) = made.filter(|name| RESERVED.contains(&name.as_str())) {
                self.problem(
                    &format!("{key}.process[{index}]"),
                    format!("{name:?} is headwater's own field: choose another name"),
                );
            }
        }
        let steps = Steps::new(written).unwrap_or_else(|problems| {
            for problem in problems {
                let key = format!("{key}.process[{}]", problem.index);
                self.problem(&key, problem.error.to_string());
            }
            Steps::default()
        });
        let repeats = repeats.map(|repeats| {
            let within = Some(repeats.within);
            self.interval(&format!("{key}.repeats.within"), within, repeats.within)
        });
        let rate_limit = rate_limit.map(|limit| {
            if limit.records == 0 {
                self.problem(
                    &format!("{key}.rate_limit.records"),
                    "0 would cut everything: one at least, or leave the source out",
                );
            }
            RateLimit {
                records: limit.records,
                per: self.interval(&format!("{key}.rate_limit.per"), Some(limit.per), limit.per),
            }
        });
        ProcessPlan {
            steps,
            repeats,
            rate_limit,
            ..ProcessPlan::default()
        }
    }
}

/// `repeats`, written back.
pub(super) fn written_repeats(plan: &ProcessPlan) -> Option<file::Repeats> {
    let within = Period(plan.repeats?);
    Some(file::Repeats { within })
}

/// `rate_limit`, written back.
pub(super) fn written_limit(plan: &ProcessPlan) -> Option<file::RateLimit> {
    let limit = plan.rate_limit?;
    Some(file::RateLimit {
        records: limit.records,
        per: Period(limit.per),
    })
}
