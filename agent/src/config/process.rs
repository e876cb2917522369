//! What a source does with its lines: steps, repeats, rate limit, as written and as meant.

use headwater_msk::Period;
use headwater_record::steps::{RESERVED, StepFile, Steps};

use super::file;
use super::problems::Check;
use crate::frame::encoding::Encoding;
use crate::process::{Form, ProcessPlan, RateLimit};

/// What steps find in the row of a file's line, before a step has made anything else.
pub(super) const LINE_NAMES: [&str; 3] = ["message", "continued", "continues"];

impl Check {
    /// Checks `process`, `repeats` and `rate_limit` of the source at `key`, whose values are of this form.
    pub(super) fn process(
        &mut self,
        (key, form): (&str, Form),
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
            form,
            steps,
            repeats,
            rate_limit,
            ..ProcessPlan::default()
        }
    }
}

// `value = "raw"`: the value is a line's bytes. A step may say whether the line goes, and cover parts of it;
// there is no place for what it makes.
impl Check {
    /// Checks what a source at `key` does with lines that go as they are. `names`: the fields that steps find.
    pub(super) fn raw(
        &mut self,
        key: &str,
        written: &[StepFile],
        repeats: Option<file::Repeats>,
        names: &[&str],
    ) {
        for (index, step) in written.iter().enumerate() {
            let key = format!("{key}.process[{index}]");
            let asked = match step {
                StepFile::Parse(_)
                | StepFile::Rename(_)
                | StepFile::Remove(_)
                | StepFile::Add(_) => {
                    self.problem(
                        &key,
                        "it makes or changes fields, and value = \"raw\" sends the line's bytes alone: leave the \
                         step to the loader, or take value = \"json\"",
                    );
                    continue;
                }
                StepFile::Keep(step) | StepFile::Drop(step) => vec![step.field.as_str()],
                StepFile::Sample(step) => step.field.as_deref().into_iter().collect(),
                StepFile::Redact(step) => {
                    let fields = step.fields.iter().flatten();
                    fields.map(String::as_str).collect()
                }
            };
            // Of what is redacted, only the message goes.
            let known = match step {
                StepFile::Redact(_) => &names[..1],
                _ => names,
            };
            let unknown = |field: &&str| !known.contains(&field.strip_prefix('/').unwrap_or(field));
            if let Some(field) = asked.into_iter().find(unknown) {
                self.problem(
                    &key,
                    format!(
                        "with value = \"raw\" there is no field {field:?}, but {}: name one of these, or take \
                         value = \"json\"",
                        known.join(", ")
                    ),
                );
            }
        }
        if repeats.is_some() {
            self.problem(
                &format!("{key}.repeats"),
                "a record that stands for several says so in a field, and value = \"raw\" has none: leave it out, \
                 or take value = \"json\"",
            );
        }
    }

    /// What is covered of a line is put back into its bytes: that is done for UTF-8 alone.
    pub(super) fn redacts_bytes(&mut self, key: &str, written: &[StepFile], encoding: Encoding) {
        let redacts = |step: &StepFile| matches!(step, StepFile::Redact(_));
        if let Some(index) = written.iter().position(redacts)
            && encoding != Encoding::UTF_8
        {
            self.problem(
                &format!("{key}.process[{index}]"),
                format!(
                    "with value = \"raw\" what is covered is put back into the line's bytes, which is done for \
                     UTF-8 alone, and the encoding is {encoding}: leave the step out, or take value = \"json\""
                ),
            );
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
