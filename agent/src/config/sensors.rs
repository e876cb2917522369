//! `[[sensor]]`, as written and as meant.

use std::path::PathBuf;
use std::time::Duration;

use headwater_msk::Period;

use super::plan::{SensorSource, as_written};
use super::problems::Check;
use super::{defaults, file};
use crate::sample::policy::{Deadband, Policy, Rollup};
use crate::sample::read::{Kind, Reader};
use crate::sample::reading::Conversion;
use crate::sample::schedule::Beat;

impl Check {
    /// Checks the sensors at `key`.
    pub(super) fn sensor(&mut self, key: &str, source: file::Sensor) -> Option<SensorSource> {
        let id = self.source_id(key, &source.id);
        let reader = self.reader(key, &source);
        let mut written = source.paths.clone();
        if written.is_empty() && source.command.is_none() {
            written = reader
                .kind
                .usual_paths()
                .iter()
                .map(|path| (*path).to_owned())
                .collect();
            if written.is_empty() {
                self.problem(&format!("{key}.paths"), "empty: name one glob at least");
            }
        }
        let paths = self.globs(key, "paths", &written);
        let conversion = self.conversion(key, &source);
        let beat = self.beat(key, &source);
        let policy = self.policy(key, &source, beat.interval);
        Some(SensorSource {
            lane: source.lane.unwrap_or(defaults::SENSOR_LANE),
            stale_after: source.stale_after.map(|after| after.0),
            unit: source.unit,
            id: id?,
            paths,
            reader,
            beat,
            conversion,
            policy,
        })
    }

    fn reader(&mut self, key: &str, source: &file::Sensor) -> Reader {
        let kind = source.kind.unwrap_or(defaults::KIND);
        let is_text = matches!(kind, Kind::Number | Kind::Json | Kind::Csv);
        if let Some(command) = &source.command {
            let key = format!("{key}.command");
            if !source.paths.is_empty() {
                self.problem(
                    &key,
                    "a source reads files (`paths`) or what a command prints, not both",
                );
            }
            if !is_text {
                self.problem(&key, "what a command prints is of kind number, json or csv");
            }
            if !command
                .first()
                .is_some_and(|program| program.starts_with('/'))
            {
                self.problem(
                    &key,
                    "name the program with its whole path, then its arguments",
                );
            }
        }
        for (name, given, of) in [
            ("pointer", source.pointer.is_some(), Kind::Json),
            ("column", source.column.is_some(), Kind::Csv),
        ] {
            match (given, kind == of) {
                (true, false) => {
                    self.problem(&format!("{key}.{name}"), "means nothing for this kind")
                }
                (false, true) => self.problem(&format!("{key}.{name}"), "this kind needs it"),
                _ => {}
            }
        }
        let separator = source.separator.as_deref().unwrap_or(",");
        if kind != Kind::Csv && source.separator.is_some() {
            self.problem(&format!("{key}.separator"), "means nothing for this kind");
        } else if separator.len() != 1 || !separator.is_ascii() {
            self.problem(
                &format!("{key}.separator"),
                format!("{separator:?} is not one ASCII character"),
            );
        }
        Reader {
            kind,
            command: source.command.clone(),
            pointer: source.pointer.clone().unwrap_or_default(),
            column: source.column.clone().unwrap_or_default(),
            separator: separator.as_bytes().first().copied().unwrap_or(b','),
            dev: PathBuf::from("/dev"),
        }
    }

    fn conversion(&mut self, key: &str, source: &file::Sensor) -> Conversion {
        let conversion = Conversion {
            scale: source.scale.unwrap_or(defaults::SCALE),
            offset: source.offset.unwrap_or(defaults::OFFSET),
            min: source.min,
            max: source.max,
        };
        for (name, value) in [
            ("scale", Some(conversion.scale)),
            ("offset", Some(conversion.offset)),
            ("min", conversion.min),
            ("max", conversion.max),
        ] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                self.problem(&format!("{key}.{name}"), format!("{value} is no number"));
            }
        }
        if let (Some(min), Some(max)) = (conversion.min, conversion.max)
            && min > max
        {
            self.problem(&format!("{key}.min"), format!("{min} is above max, {max}"));
        }
        conversion
    }

    fn beat(&mut self, key: &str, source: &file::Sensor) -> Beat {
        let interval = self.interval(
            &format!("{key}.interval"),
            source.interval,
            defaults::INTERVAL,
        );
        let jitter = source.jitter.unwrap_or(defaults::JITTER).0;
        if jitter > interval / 2 {
            self.problem(
                &format!("{key}.jitter"),
                "above half of the interval: readings would meet",
            );
        }
        Beat {
            interval,
            jitter,
            aligned: source.align.unwrap_or(defaults::ALIGN),
        }
    }

    fn policy(&mut self, key: &str, source: &file::Sensor, interval: Duration) -> Policy {
        let deadband = source.deadband.as_deref().and_then(|text| {
            let deadband = parse_deadband(text);
            if deadband.is_none() {
                let what =
                    format!("{text:?} is no deadband: \"0.5\" in the sensor's unit, or \"2%\"");
                self.problem(&format!("{key}.deadband"), what);
            }
            deadband
        });
        let rollup = source.rollup.map(|rollup| {
            if rollup.window.0 < interval {
                self.problem(&format!("{key}.rollup.window"), "shorter than the interval");
            }
            Rollup {
                window: rollup.window.0,
                when: rollup.when,
            }
        });
        Policy {
            deadband,
            heartbeat: self.interval(
                &format!("{key}.heartbeat"),
                source.heartbeat,
                defaults::HEARTBEAT,
            ),
            rollup,
        }
    }
}

/// `"0.5"`, `"2%"`: above zero.
fn parse_deadband(text: &str) -> Option<Deadband> {
    let (number, is_part) = match text.strip_suffix('%') {
        Some(number) => (number, true),
        None => (text, false),
    };
    let width: f64 = number.trim().parse().ok()?;
    let is_width = width.is_finite() && width > 0.0;
    is_width.then_some(match is_part {
        true => Deadband::Percent(width),
        false => Deadband::Absolute(width),
    })
}

impl SensorSource {
    pub(super) fn effective(&self) -> file::Sensor {
        let is = |kind| self.reader.kind == kind;
        let deadband = self.policy.deadband.map(|deadband| match deadband {
            Deadband::Absolute(width) => width.to_string(),
            Deadband::Percent(width) => format!("{width}%"),
        });
        let rollup = self.policy.rollup.map(|rollup| file::Rollup {
            window: Period(rollup.window),
            when: rollup.when,
        });
        file::Sensor {
            id: self.id.as_str().to_owned(),
            kind: Some(self.reader.kind),
            lane: Some(self.lane),
            paths: as_written(&self.paths),
            command: self.reader.command.clone(),
            pointer: is(Kind::Json).then(|| self.reader.pointer.clone()),
            column: is(Kind::Csv).then(|| self.reader.column.clone()),
            separator: is(Kind::Csv).then(|| char::from(self.reader.separator).to_string()),
            interval: Some(Period(self.beat.interval)),
            jitter: Some(Period(self.beat.jitter)),
            align: Some(self.beat.aligned),
            deadband,
            heartbeat: Some(Period(self.policy.heartbeat)),
            min: self.conversion.min,
            max: self.conversion.max,
            stale_after: self.stale_after.map(Period),
            scale: Some(self.conversion.scale),
            offset: Some(self.conversion.offset),
            unit: self.unit.clone(),
            rollup,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadband_is_a_width_or_a_part() {
        for (text, deadband) in [
            ("0.5", Some(Deadband::Absolute(0.5))),
            (" 2 %", Some(Deadband::Percent(2.0))),
            ("0", None),
            ("-1%", None),
            ("nan", None),
            ("inf", None),
            ("%", None),
            ("5C", None),
        ] {
            assert_eq!(parse_deadband(text), deadband, "{text:?}");
        }
    }
}
