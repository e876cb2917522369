//! One record, or one closed window, into the row that is written, or the reason why there is none.

use super::dead_letter::Refusal;
use super::{Made, Pipeline, Record, Scratch, To};
use crate::aggregate::{Aggregate, WindowRow, Windows};
use crate::format::Kind;
use crate::items::Source;
use crate::peek::{Field, Fields, peek, pick};
use crate::route::{PathMemo, PathTemplate, Same};
use crate::transform::vrl::{Around, Ended};
use crate::transform::{Ran, Row, Step};

/// A line and whether its path is the one before; or why there is none, with the buffer to write that
/// into.
pub(super) type Written<'a> = Result<(&'a [u8], Same), (Gone, &'a mut Vec<u8>)>;

/// Why a record has no row of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Filtered,
    /// Only windows have it.
    Aggregated,
    /// It is a dead letter.
    Refused(Refusal),
}

impl From<String> for Gone {
    fn from(reason: String) -> Self {
        Self::Refused(Refusal { reason, step: None })
    }
}

impl Pipeline {
    /// Makes a record's row. A record that is no JSON object becomes a row of the dead letters, with
    /// its exact bytes and the reason. Without steps the value is only looked at, and goes through
    /// byte for byte; line breaks between its parts become blanks. `windows` are aligned with this pipeline's aggregates.
    pub fn make<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        windows: &mut Windows,
        scratch: &'a mut Scratch,
    ) -> Made<'a> {
        let Scratch {
            line,
            memo,
            last,
            refusal: why,
            unparsed,
            made: beside,
        } = scratch;
        beside.items.clear();
        *unparsed = false;
        let source = Source {
            record,
            window: None,
            quiet_ms: None,
        };
        let made = match (self.steps.is_empty(), self.spec.format.kind) {
            (true, Kind::Ndjson) => self.pass(record, clock_ms, line, memo),
            (true, Kind::Raw) if self.items.is_empty() => {
                self.pass_raw(record, clock_ms, line, memo)
            }
            _ => self.transform(
                record,
                clock_ms,
                windows,
                (line, &mut beside.json),
                (memo, last, unparsed),
            ),
        };
        match self.beside(made, source, beside) {
            Ok((line, Same::AsBefore)) => Made::Row {
                line,
                to: To::PathAsBefore,
            },
            Ok((line, Same::No)) => Made::Row {
                line,
                to: To::Path(&memo.path),
            },
            Err((Gone::Filtered, _)) => Made::Filtered,
            Err((Gone::Aggregated, _)) => Made::Aggregated,
            Err((Gone::Refused(refusal), line)) => {
                // Its path was found before it failed, and nothing lies there yet.
                *memo = PathMemo::default();
                *why = refusal;
                Made::Row {
                    line: self.dead_letter(record, clock_ms, (why, None), line),
                    to: To::DeadLetters(why),
                }
            }
        }
    }

    /// Raw lines: only a few fields are looked at, and nothing at all where none is wanted. Where the
    /// line is the record's whole value it need not be JSON.
    fn pass_raw<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        line: &'a mut Vec<u8>,
        memo: &mut PathMemo,
    ) -> Written<'a> {
        let Some(value) = record.value else {
            return Err(("it has no value".to_owned().into(), line));
        };
        let whole = self.spec.format.raw_field.is_none();
        let looked = match self.looked_for.is_empty() {
            true => Ok(Fields::default()),
            false => {
                text(Some(value)).and_then(|text| peek(text, &self.looked_for).map_err(no_object))
            }
        };
        let fields = match looked {
            Ok(fields) => fields,
            Err(_) if whole => Fields::default(),
            Err(reason) => return Err((reason.into(), line)),
        };
        let same = match self.spec.path.path(&fields, (record.topic, clock_ms), memo) {
            Ok(same) => same,
            Err(error) => return Err((error.to_string().into(), line)),
        };
        if whole {
            return Ok((value, same));
        }
        let at = self.spec.path.fields().len();
        let field = |at: usize| fields.get(at).and_then(Option::as_ref);
        match raw_line(field(at), field(at + 1), line) {
            Ok(()) => Ok((line, same)),
            Err(()) => Err((self.no_raw_field().into(), line)),
        }
    }

    fn no_raw_field(&self) -> String {
        let field = self.spec.format.raw_field.as_deref().unwrap_or_default();
        format!("it has no field {field}")
    }

    fn pass<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        line: &'a mut Vec<u8>,
        memo: &mut PathMemo,
    ) -> Written<'a> {
        let path = &self.spec.path;
        let looked = text(record.value).and_then(|text| {
            let fields = peek(text, path.fields()).map_err(no_object)?;
            let same = path.path(&fields, (record.topic, clock_ms), memo);
            Ok((text, same.map_err(|error| error.to_string())?))
        });
        let (text, same) = match looked {
            Ok(looked) => looked,
            Err(reason) => return Err((reason.into(), line)),
        };
        let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
        if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
            return Ok((text.as_bytes(), same));
        }
        // Readers of lines want it on one line. It is JSON, so none of these stands inside of a string.
        line.clear();
        line.extend_from_slice(text.as_bytes());
        for byte in line.iter_mut().filter(|byte| breaks(byte)) {
            *byte = b' ';
        }
        Ok((line, same))
    }

    fn transform<'a>(
        &self,
        record: Record<'a>,
        clock_ms: u64,
        windows: &mut Windows,
        (line, json): (&'a mut Vec<u8>, &mut Vec<u8>),
        (memo, last, unparsed): (&mut PathMemo, &mut Option<usize>, &mut bool),
    ) -> Written<'a> {
        let parsed = text(record.value)
            .and_then(|text| serde_json::from_str::<Row>(text).map_err(no_object));
        let mut row = match parsed {
            Ok(row) => row,
            Err(reason) => return Err((reason.into(), line)),
        };
        let route = match self.run((record, clock_ms), windows, &mut row, unparsed) {
            Ok(route) => route,
            Err(gone) => return Err((gone, line)),
        };
        let by = route.map(|(step, _)| step);
        if *last != by {
            // What is remembered is another template's.
            *memo = PathMemo::default();
            *last = by;
        }
        let path = route.map_or(&self.spec.path, |(_, path)| path);
        let around = (record.topic, clock_ms);
        let same = match path.path(&pick(&row, path.fields()), around, memo) {
            Ok(same) => same,
            Err(error) => return Err((error.to_string().into(), line)),
        };
        self.write_json(&row, json);
        if let (Kind::Raw, None, Some(value)) = (
            self.spec.format.kind,
            &self.spec.format.raw_field,
            record.value,
        ) {
            return Ok((value, same));
        }
        match self.write(&row, line) {
            Ok(()) => Ok((line, same)),
            Err(reason) => Err((reason.into(), line)),
        }
    }

    /// Writes a row as the format has it.
    fn write(&self, row: &Row, line: &mut Vec<u8>) -> Result<(), String> {
        let format = &self.spec.format;
        match (format.kind, &format.raw_field) {
            (Kind::Ndjson, _) => {
                write_row(row, line);
                Ok(())
            }
            (Kind::Raw, None) => Err("raw output holds records alone".into()),
            (Kind::Raw, Some(_)) => {
                let at = self.spec.path.fields().len();
                let names = self.looked_for.get(at..).unwrap_or_default();
                let [text, exact, ..] = pick(row, names);
                raw_line(text.as_ref(), exact.as_ref(), line).map_err(|()| self.no_raw_field())
            }
            (Kind::Csv | Kind::Parquet, _) => format.write(row, line),
        }
    }

    /// Makes the row of a closed window. `at`: where the batch that closed it ends, for a row that
    /// cannot be written: it becomes a dead letter like any other.
    pub fn make_window<'a>(
        &self,
        window: &WindowRow,
        at: Record<'_>,
        clock_ms: u64,
        scratch: &'a mut Scratch,
    ) -> Made<'a> {
        let Scratch {
            line,
            memo,
            last,
            refusal: why,
            made: beside,
            ..
        } = scratch;
        (*memo, *last) = (PathMemo::default(), None);
        beside.items.clear();
        let source = Source {
            record: at,
            window: Some(beside.windows),
            quiet_ms: beside.quiet_ms,
        };
        beside.windows += 1;
        self.write_json(&window.row, &mut beside.json);
        let old = window.path.clone().map(PathTemplate::try_from);
        let aggregate = window.slot.and_then(|slot| self.aggregates().nth(slot));
        let path = match (&old, aggregate.and_then(Aggregate::path)) {
            (Some(Ok(path)), _) | (_, Some(path)) => path,
            _ => &self.spec.path,
        };
        let fields = pick(&window.row, path.fields());
        let placed = path.path(&fields, (at.topic, clock_ms), memo);
        let made = placed.map_err(|error| error.to_string());
        // The memory of the last path is this one's alone.
        let made = made.and_then(|_| self.write(&window.row, line));
        match made.and_then(|()| self.make_items(line, source, beside)) {
            Ok(()) => Made::Row {
                line,
                to: To::Path(&memo.path),
            },
            Err(reason) => {
                let value = serde_json::to_vec(&window.row).unwrap_or_default();
                let record = Record {
                    value: Some(&value),
                    ..at
                };
                *why = Refusal { reason, step: None };
                Made::Row {
                    line: self.dead_letter(record, clock_ms, (why, Some(window)), line),
                    to: To::DeadLetters(why),
                }
            }
        }
    }

    /// Runs the steps: the route that the row takes, where one holds, or why there is no row.
    fn run(
        &self,
        (record, clock_ms): (Record<'_>, u64),
        windows: &mut Windows,
        row: &mut Row,
        unparsed: &mut bool,
    ) -> Result<Option<(usize, &PathTemplate)>, Gone> {
        let mut route = None;
        for (at, step) in self.steps.iter().enumerate() {
            let ran = match step {
                Step::Aggregate(aggregate) => match windows.add(aggregate, row, clock_ms) {
                    Ok(()) if aggregate.file().keep_records => Ran::On,
                    Ok(()) => return Err(Gone::Aggregated),
                    Err(reason) => Ran::Failed(reason),
                },
                Step::Vrl(program) => {
                    let around = Around {
                        topic: record.topic,
                        partition: record.partition,
                        entry: record.entry,
                        clock_ms,
                    };
                    match program.run(around, row) {
                        Ended::On => Ran::On,
                        Ended::Dropped => Ran::Dropped,
                        Ended::Failed(reason) => Ran::Failed(reason),
                    }
                }
                step => step.run(row, seed(record), unparsed),
            };
            match ran {
                Ran::On => {}
                Ran::To(path) => route = route.or(Some((at, path))),
                Ran::Dropped => return Err(Gone::Filtered),
                Ran::Failed(reason) => {
                    return Err(Gone::Refused(Refusal {
                        reason,
                        step: Some(at + 1),
                    }));
                }
            }
        }
        Ok(route)
    }
}

/// What stands for a record where only a part of all is kept: where it lies.
fn seed(record: Record<'_>) -> u64 {
    let partition = u64::try_from(record.partition).unwrap_or(0);
    record.entry.offset ^ (partition << 48)
}

/// A raw line from its field: the exact bytes where the text could not show them.
fn raw_line(
    text: Option<&Field<'_>>,
    exact: Option<&Field<'_>>,
    line: &mut Vec<u8>,
) -> Result<(), ()> {
    use base64::Engine;
    line.clear();
    let exact = exact.and_then(Field::text);
    if let Some(exact) = exact
        && base64::engine::general_purpose::STANDARD
            .decode_vec(exact, line)
            .is_ok()
    {
        return Ok(());
    }
    line.clear();
    let text = text.ok_or(())?;
    line.extend_from_slice(text.shown().as_bytes());
    Ok(())
}

fn text(value: Option<&[u8]>) -> Result<&str, String> {
    let value = value.ok_or("it has no value")?;
    std::str::from_utf8(value).map_err(|error| format!("it is not UTF-8: {error}"))
}

fn no_object(error: serde_json::Error) -> String {
    format!("it is no JSON object: {error}")
}

pub(super) fn write_row<'a>(row: &Row, line: &'a mut Vec<u8>) -> &'a [u8] {
    line.clear();
    let written = serde_json::to_writer(&mut *line, row);
    debug_assert!(
        written.is_ok(),
        "a Vec takes every byte, and a row is plain JSON"
    );
    line
}
