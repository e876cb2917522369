//! `[[journal]]`, as written and as meant.

use std::path::PathBuf;

use super::plan::JournalSource;
use super::problems::Check;
use super::{defaults, file, process};
use crate::journal::entry::NAMES;
use crate::process::Form;

/// The priorities of the journal by name, from 0.
const PRIORITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

impl Check {
    /// Checks the journal source at `key`.
    pub(super) fn journal(&mut self, key: &str, source: file::Journal) -> Option<JournalSource> {
        let id = self.source_id(key, &source.id);
        self.journal_filters(key, &source);
        let directory = source.directory.map(PathBuf::from);
        if directory
            .as_ref()
            .is_some_and(|directory| !directory.is_absolute())
        {
            self.problem(
                &format!("{key}.directory"),
                "not absolute: begin it with '/'",
            );
        }
        for (n, unit) in source.units.iter().enumerate() {
            if unit.trim().is_empty() {
                self.problem(
                    &format!("{key}.units[{n}]"),
                    "empty: name a unit, such as \"ssh.service\"",
                );
            }
        }
        for (n, field) in source.fields.iter().enumerate() {
            let is_name = |c: u8| matches!(c, b'A'..=b'Z' | b'0'..=b'9' | b'_');
            if field.is_empty() || !field.bytes().all(is_name) {
                let what =
                    format!("{field:?} is no field of the journal: capitals, digits and '_'");
                self.problem(&format!("{key}.fields[{n}]"), what);
            }
        }
        let form = source.value.unwrap_or(defaults::JOURNAL_VALUE);
        if form == Form::Raw {
            self.raw(key, &source.process, source.repeats, &NAMES);
            if !source.fields.is_empty() {
                self.problem(
                    &format!("{key}.fields"),
                    "value = \"raw\" passes the message alone on: leave them out, or take value = \"json\"",
                );
            }
        }
        Some(JournalSource {
            units: source.units,
            lane: source.lane.unwrap_or(defaults::JOURNAL_LANE),
            priority: source.priority,
            since: source.since,
            start_at: source.start_at.unwrap_or(defaults::JOURNAL_START_AT),
            directory,
            fields: source.fields,
            process: self.process(
                (key, form),
                source.process,
                source.repeats,
                source.rate_limit,
            ),
            id: id?,
        })
    }
}

impl Check {
    /// What journalctl would refuse, as far as that is known here.
    fn journal_filters(&mut self, key: &str, source: &file::Journal) {
        if source.since.is_some() && source.start_at.is_some() {
            self.problem(
                &format!("{key}.since"),
                "and start_at say two things: keep one",
            );
        }
        if let Some(priority) = &source.priority
            && !is_priority(priority)
        {
            self.problem(
                &format!("{key}.priority"),
                format!(
                    "{priority:?} is none that journalctl knows: one of {}, a number from 0 to 7, or a range of two \
                     (\"err..alert\")",
                    PRIORITIES.join(", ")
                ),
            );
        }
        if source
            .since
            .as_ref()
            .is_some_and(|since| since.trim().is_empty())
        {
            self.problem(
                &format!("{key}.since"),
                "empty: a moment as `journalctl --since` takes it, such as \"-1h\" or \"today\"",
            );
        }
    }
}

/// Whether journalctl takes it: one priority, or a range of two. Source: systemd, `journalctl(1)`.
fn is_priority(text: &str) -> bool {
    let is_one = |one: &str| {
        PRIORITIES.contains(&one)
            || matches!(one.as_bytes(), [digit] if (b'0'..=b'7').contains(digit))
    };
    match text.split_once("..") {
        Some((from, to)) => is_one(from) && is_one(to),
        None => is_one(text),
    }
}

impl JournalSource {
    pub(super) fn effective(&self) -> file::Journal {
        file::Journal {
            id: self.id.as_str().to_owned(),
            units: self.units.clone(),
            lane: Some(self.lane),
            priority: self.priority.clone(),
            since: self.since.clone(),
            start_at: self.since.is_none().then_some(self.start_at),
            directory: self
                .directory
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
            fields: self.fields.clone(),
            value: Some(self.process.form),
            repeats: process::written_repeats(&self.process),
            rate_limit: process::written_limit(&self.process),
            process: self.process.steps.written().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_word_a_number_or_a_range() {
        for (text, expected) in [
            ("warning", true),
            ("emerg", true),
            ("0", true),
            ("7", true),
            ("err..alert", true),
            ("0..debug", true),
            ("", false),
            ("8", false),
            ("10", false),
            ("warn", false),
            ("error", false),
            ("WARNING", false),
            (" err", false),
            ("err..", false),
            ("..err", false),
            ("err..alert..0", false),
            ("err...alert", false),
            ("err-alert", false),
        ] {
            assert_eq!(is_priority(text), expected, "{text:?}");
        }
    }
}
