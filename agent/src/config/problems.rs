//! The checks of single values: each gives the value as the plan has it, and takes note of what is
//! wrong with it, so that all problems come out at once.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use glob::Pattern;
use headwater_msk::{Bytes, Period};
use headwater_record::{DeviceId, SourceId};

use super::file::LastLine;
use super::plan::{FileSource, JournalSource, SensorSource};
use super::process::LINE_NAMES;
use super::{Listen, defaults, file, memory};
use crate::delivery::allowance::Budgets;
use crate::delivery::uplink::{self, Hours, UplinkSettings};
use crate::frame::encoding::Encoding;
use crate::frame::frames::{AtCut, Framing};
use crate::frame::multiline::{self, Multiline};
use crate::process::Form;
use crate::produce::key::Key;
use crate::spool::sealing::KeyFiles;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `spool.max_bytes`, `file[0].paths[1]` (sources counted from 0).
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Sizes above what the machine can address mean "all there is".
pub(super) fn to_usize(bytes: Bytes) -> usize {
    usize::try_from(bytes.0).unwrap_or(usize::MAX)
}

/// Collects problems while values pass through.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
    ids: BTreeSet<SourceId>,
}

impl Check {
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// A path that is `default` where it is not `written`.
    pub(super) fn absolute(
        &mut self,
        key: &str,
        written: Option<String>,
        default: &str,
    ) -> PathBuf {
        let path = PathBuf::from(written.unwrap_or_else(|| default.to_owned()));
        if !path.is_absolute() {
            self.problem(key, format!("{path:?} is not absolute: begin it with '/'"));
        }
        path
    }

    pub(super) fn listen(&mut self, written: Option<String>, state_dir: &Path) -> Listen {
        let written = written.unwrap_or_else(|| defaults::ADMIN_LISTEN.to_owned());
        match Listen::parse(&written, state_dir) {
            Ok(listen) => listen,
            Err(error) => {
                self.problem("admin.listen", format!("{written:?}: {error}"));
                Listen::Off
            }
        }
    }

    pub(super) fn spool_keys(&mut self, written: &file::Spool) -> KeyFiles {
        let (key, old_keys) = (written.key.clone(), written.old_keys.clone());
        let named = (key.iter().map(|file| ("spool.key".to_owned(), file))).chain(
            (old_keys.iter().enumerate()).map(|(n, file)| (format!("spool.old_keys[{n}]"), file)),
        );
        for (name, file) in named {
            if let Some(path) = file.written_path().filter(|path| !path.is_absolute()) {
                let what = format!(
                    "{path:?} is not absolute: begin it with '/', or name a systemd credential (\"credential:NAME\")"
                );
                self.problem(&name, what);
            }
        }
        KeyFiles { key, old_keys }
    }

    /// The key of each record.
    pub(super) fn key(&mut self, written: Option<&str>) -> Key {
        let key = Key::parse(written.unwrap_or(defaults::PRODUCE_KEY));
        key.unwrap_or_else(|problem| {
            self.problem("produce.key", problem);
            Key::default()
        })
    }

    pub(super) fn at_least(&mut self, key: &str, value: Bytes, least: Bytes) -> Bytes {
        if value < least {
            self.problem(key, format!("{value} is too small: at least {least}"));
        }
        value
    }

    /// The window, as written or as what the other parts leave of `memory.max`.
    pub(super) fn window(
        &mut self,
        written: Option<Bytes>,
        max: Option<Bytes>,
        journals: usize,
    ) -> Bytes {
        let shares = memory::shares(journals);
        let others = memory::sum(&shares);
        let left = max.map(|max| Bytes(max.0.saturating_sub(others.0)));
        let least = defaults::WINDOW_BYTES_LEAST;
        if let (Some(max), Some(left)) = (max, left)
            && left < written.unwrap_or(least)
        {
            let wanted = Bytes(others.0.saturating_add(written.unwrap_or(least).0));
            self.problem(
                "memory.max",
                format!(
                    "{max} is too small: the agent takes {others} besides its window ({}), so {wanted} at least",
                    memory::said(&shares)
                ),
            );
        }
        let default = left.map_or(defaults::WINDOW_BYTES, |left| left.max(least));
        self.at_least("window.bytes", written.unwrap_or(default), least)
    }

    pub(super) fn uplink(
        &mut self,
        written: &file::Uplink,
        device: Option<&DeviceId>,
    ) -> UplinkSettings {
        let hours = written.hours.as_ref().and_then(|text| {
            let hours = text.parse::<Hours>();
            if let Err(wanted) = &hours {
                self.problem("uplink.hours", format!("{text:?} is not {wanted}"));
            }
            hours.ok()
        });
        let mut budget = |name: &str, written: Option<Bytes>| {
            let key = format!("uplink.bytes_per_{name}");
            let least = defaults::UPLINK_BYTES_LEAST;
            written.map(|bytes| self.at_least(&key, bytes, least).0)
        };
        let budgets = Budgets {
            hour: budget("hour", written.bytes_per_hour),
            day: budget("day", written.bytes_per_day),
            month: budget("month", written.bytes_per_month),
        };
        let name = device.map_or("", |device| device.as_str()).as_bytes();
        UplinkSettings {
            session: written.session.unwrap_or(defaults::UPLINK_SESSION),
            every: self.interval("uplink.every", written.every, defaults::UPLINK_EVERY),
            place: uplink::place(name),
            hours,
            budgets,
        }
    }

    pub(super) fn interval(
        &mut self,
        key: &str,
        written: Option<Period>,
        default: Period,
    ) -> Duration {
        let value = written.unwrap_or(default);
        let least = defaults::INTERVAL_LEAST;
        if value < least {
            self.problem(key, format!("{value} is too short: at least {least}"));
        }
        value.0
    }

    /// Checks every source; nothing where one cannot be meant.
    pub(super) fn sources(
        &mut self,
        files: Vec<file::File>,
        journals: Vec<file::Journal>,
        sensors: Vec<file::Sensor>,
    ) -> Option<(Vec<FileSource>, Vec<JournalSource>, Vec<SensorSource>)> {
        if files.is_empty() && journals.is_empty() && sensors.is_empty() {
            self.problem(
                "file",
                "no source: write one [[file]], [[journal]] or [[sensor]] at least",
            );
        }
        // Each is checked, also where one before it has a problem.
        let files: Vec<_> = (files.into_iter().enumerate())
            .map(|(n, source)| self.file(&format!("file[{n}]"), source))
            .collect();
        let journals: Vec<_> = (journals.into_iter().enumerate())
            .map(|(n, source)| self.journal(&format!("journal[{n}]"), source))
            .collect();
        let sensors: Vec<_> = (sensors.into_iter().enumerate())
            .map(|(n, source)| self.sensor(&format!("sensor[{n}]"), source))
            .collect();
        Some((
            files.into_iter().collect::<Option<_>>()?,
            journals.into_iter().collect::<Option<_>>()?,
            sensors.into_iter().collect::<Option<_>>()?,
        ))
    }

    pub(super) fn file(&mut self, key: &str, source: file::File) -> Option<FileSource> {
        let id = self.source_id(key, &source.id);
        let paths = self.globs(key, "paths", &source.paths);
        if source.paths.is_empty() {
            self.problem(&format!("{key}.paths"), "empty: name one glob at least");
        }
        let max_line = source.max_line.unwrap_or(defaults::MAX_LINE);
        let (least, most) = (defaults::MAX_LINE_LEAST, defaults::MAX_LINE_MOST);
        if max_line < least || max_line > most {
            self.problem(
                &format!("{key}.max_line"),
                format!(
                    "{max_line} is not between {least} and {most}: JSON can write a byte as six, \
                     and Kafka's message limit is 1 MB (a longer line goes in pieces)"
                ),
            );
        }
        let last_line = source.last_line.unwrap_or(defaults::LAST_LINE);
        let framing = Framing {
            encoding: self.encoding(key, source.encoding.as_deref()),
            max_line: to_usize(max_line),
            multiline: (source.multiline.as_ref())
                .and_then(|written| self.multiline(&format!("{key}.multiline"), written)),
            at_cut: match last_line {
                LastLine::Continue => AtCut::Continues,
                LastLine::Wait | LastLine::Complete => AtCut::Complete,
            },
        };
        let form = source.value.unwrap_or(defaults::FILE_VALUE);
        if form == Form::Raw {
            self.raw(key, &source.process, source.repeats, &LINE_NAMES);
            self.redacts_bytes(key, &source.process, framing.encoding);
        }
        let multiline_timeout = self.interval(
            &format!("{key}.multiline.timeout"),
            source.multiline.and_then(|written| written.timeout),
            defaults::MULTILINE_TIMEOUT,
        );
        Some(FileSource {
            exclude: self.globs(key, "exclude", &source.exclude),
            lane: source.lane.unwrap_or(defaults::FILE_LANE),
            start_at: source.start_at.unwrap_or(defaults::START_AT),
            framing,
            multiline_timeout,
            last_line,
            last_line_after: self.interval(
                &format!("{key}.last_line_after"),
                source.last_line_after,
                defaults::LAST_LINE_AFTER,
            ),
            rescan: self.interval(&format!("{key}.rescan"), source.rescan, defaults::RESCAN),
            close_after: self.interval(
                &format!("{key}.close_after"),
                source.close_after,
                defaults::CLOSE_AFTER,
            ),
            process: self.process(
                (key, form),
                source.process,
                source.repeats,
                source.rate_limit,
            ),
            id: id?,
            paths,
        })
    }

    fn encoding(&mut self, key: &str, written: Option<&str>) -> Encoding {
        let label = written.unwrap_or(defaults::ENCODING);
        Encoding::parse(label).unwrap_or_else(|| {
            self.problem(
                &format!("{key}.encoding"),
                format!(
                    "{label:?} is no encoding of the WHATWG Encoding Standard: utf-8, utf-16le, \
                     latin1, shift_jis, gbk, … (https://encoding.spec.whatwg.org/#names-and-labels)"
                ),
            );
            Encoding::UTF_8
        })
    }

    fn multiline(&mut self, key: &str, written: &file::Multiline) -> Option<Multiline> {
        let mut pattern = |name: &str, text: &Option<String>| {
            let text = text.as_ref()?;
            match text.parse::<multiline::Pattern>() {
                Ok(pattern) => Some(pattern),
                Err(error) => {
                    self.problem(
                        &format!("{key}.{name}"),
                        format!("{text:?} is no pattern: {error}"),
                    );
                    None
                }
            }
        };
        let given = [
            written.preset.map(Multiline::Preset),
            pattern("start", &written.start).map(Multiline::Start),
            pattern("continue", &written.go_on).map(Multiline::Continue),
            pattern("end", &written.end).map(Multiline::End),
        ];
        let count = usize::from(written.preset.is_some())
            + usize::from(written.start.is_some())
            + usize::from(written.go_on.is_some())
            + usize::from(written.end.is_some());
        if count != 1 {
            self.problem(
                key,
                "give one of preset, start, continue, end: it says which lines belong together",
            );
        }
        given.into_iter().flatten().next()
    }

    pub(super) fn source_id(&mut self, key: &str, written: &str) -> Option<SourceId> {
        let key = format!("{key}.id");
        match written.parse::<SourceId>() {
            Ok(id) => {
                if !self.ids.insert(id.clone()) {
                    self.problem(&key, format!("{written:?} names another source already"));
                }
                Some(id)
            }
            Err(error) => {
                self.problem(&key, format!("{written:?} cannot be an id: {error}"));
                None
            }
        }
    }

    pub(super) fn globs(&mut self, key: &str, name: &str, written: &[String]) -> Vec<Pattern> {
        let mut patterns = Vec::with_capacity(written.len());
        for (n, text) in written.iter().enumerate() {
            let key = format!("{key}.{name}[{n}]");
            if !Path::new(text).is_absolute() {
                self.problem(&key, format!("{text:?} is not absolute: begin it with '/'"));
            }
            match Pattern::new(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.problem(
                    &key,
                    format!("{text:?} is no glob: {} at byte {}", error.msg, error.pos),
                ),
            }
        }
        patterns
    }
}
