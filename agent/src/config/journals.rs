//! `[[journal]]`, as written and as meant.

use std::path::PathBuf;

use super::plan::JournalSource;
use super::problems::Check;
use super::{defaults, file, process};
use crate::journal::entry::NAMES;
use crate::process::Form;

impl Check {
    /// Checks the journal source at `key`.
    pub(super) fn journal(&mut self, key: &str, source: file::Journal) -> Option<JournalSource> {
        let id = self.source_id(key, &source.id);
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
        if source.since.is_some() && source.start_at.is_some() {
            self.problem(
                &format!("{key}.since"),
                "and start_at say two things: keep one",
            );
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
