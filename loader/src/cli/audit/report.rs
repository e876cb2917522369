//! What an audit says, as text and as JSON: lines as they come out of the merge, one at a time, and
//! what all of them come to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};

use headwater_record::notice::Tail;
use headwater_record::{Generation, Span};
use jiff::Timestamp;
use serde::ser::{Error as _, SerializeSeq as _, SerializeStruct as _};
use serde::{Serialize, Serializer};

use super::collect::{Line, Totals};
use super::merge::Merged;
use crate::status::devices::Device;

/// Gaps of a generation that the text lists.
const GAPS_LISTED: usize = 10;
/// Widths of the column of names, least and most.
const WIDTH: (usize, usize) = (6, 72);

/// One generation of one stream.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    stream: &'a str,
    generation: Generation,
    partition: i32,
    records: u64,
    settled: u64,
    state: &'static str,
    closed: Option<&'a str>,
    gaps: Vec<Span>,
    /// Up to where what came before a stretch is unknown; none in a live output.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    duplicates: u64,
    repeated: u64,
    lost: &'a BTreeMap<String, u64>,
}

impl<'a> From<&'a Line> for Row<'a> {
    fn from(line: &'a Line) -> Self {
        let state = &line.of;
        Self {
            stream: &line.stream,
            generation: line.generation,
            partition: line.partition,
            records: state.records,
            settled: state.settled,
            state: match &state.closed {
                None => "open",
                Some(closed) if closed.tail == Tail::Unknown => "closed, tail unknown",
                Some(_) => "closed",
            },
            closed: state.closed.as_ref().map(|closed| closed.reason.as_str()),
            gaps: state.gaps.iter().collect(),
            before: line.before,
            duplicates: state.duplicates,
            repeated: state.repeated,
            lost: &state.lost,
        }
    }
}

/// Those of one name made one: a device may have streams in several partitions.
pub(super) struct Joined<'a> {
    of: Merged<'a, Device>,
    next: Option<Device>,
}

impl<'a> Joined<'a> {
    pub(super) fn new(mut of: Merged<'a, Device>) -> io::Result<Self> {
        let next = of.next().transpose()?;
        Ok(Self { of, next })
    }
}

impl Iterator for Joined<'_> {
    type Item = io::Result<Device>;

    fn next(&mut self) -> Option<io::Result<Device>> {
        let mut device = self.next.take()?;
        for other in &mut self.of {
            match other {
                Ok(other) if other.device == device.device => device.plus(&other),
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(device))
    }
}

/// What stands in a line.
pub(super) trait Printed {
    /// The lines' name in JSON.
    const NAME: &'static str;

    /// As JSON has it.
    type Json<'a>: Serialize
    where
        Self: 'a;

    /// The heads of the columns.
    fn heads(out: &mut impl Write, width: usize) -> io::Result<()>;
    /// A line of the text.
    fn text(&self, out: &mut impl Write, width: usize) -> io::Result<()>;
    /// A line of the JSON.
    fn json(&self) -> Self::Json<'_>;
}

impl Printed for Line {
    const NAME: &'static str = "rows";
    type Json<'a> = Row<'a>;

    fn heads(out: &mut impl Write, width: usize) -> io::Result<()> {
        writeln!(
            out,
            "{:<width$}  {:<16}  {:>10}  {:>14}  {:>4}  STATE",
            "STREAM", "GENERATION", "RECORDS", "SETTLED END", "GAPS"
        )
    }

    fn text(&self, out: &mut impl Write, width: usize) -> io::Result<()> {
        let row = self.json();
        write!(
            out,
            "{:<width$}  {:<16}  {:>10}  {:>14}  {:>4}  {}",
            row.stream,
            row.generation.to_string(),
            row.records,
            row.settled,
            row.gaps.len(),
            row.state
        )?;
        if let Some(reason) = row.closed {
            write!(out, " ({reason})")?;
        }
        if let Some(before) = row.before {
            write!(out, "; [0, {before}) is not of this stretch")?;
        }
        if row.repeated > 0 {
            write!(out, "; {} offsets repeated", row.repeated)?;
        }
        for (reason, offsets) in row.lost {
            write!(out, "; {offsets} offsets lost, explained: {reason}")?;
        }
        writeln!(out)?;
        for gap in row.gaps.iter().take(GAPS_LISTED) {
            writeln!(out, "    unexplained gap {gap}: {} offsets", gap.len())?;
        }
        if row.gaps.len() > GAPS_LISTED {
            writeln!(out, "    and {} gaps more", row.gaps.len() - GAPS_LISTED)?;
        }
        Ok(())
    }

    fn json(&self) -> Row<'_> {
        Row::from(self)
    }
}

impl Printed for Device {
    const NAME: &'static str = "devices";
    type Json<'a> = &'a Self;

    fn heads(out: &mut impl Write, width: usize) -> io::Result<()> {
        writeln!(
            out,
            "{:<width$}  {:>8}  {:>12}  {:>6}  {:>12}  {:>12}  LAST SEEN",
            "DEVICE", "STREAMS", "RECORDS", "GAPS", "MISSING", "EXPLAINED"
        )
    }

    fn text(&self, out: &mut impl Write, width: usize) -> io::Result<()> {
        let seen = i64::try_from(self.seen_ms).ok().filter(|ms| *ms > 0);
        let seen = seen.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let seen = seen.map_or_else(
            || "all is complete and forgotten".to_owned(),
            |at| at.to_string(),
        );
        writeln!(
            out,
            "{:<width$}  {:>8}  {:>12}  {:>6}  {:>12}  {:>12}  {seen}",
            self.device, self.streams, self.records, self.gaps, self.missing, self.lost
        )
    }

    fn json(&self) -> &Self {
        self
    }
}

/// Prints lines as they come, with what all of them come to.
///
/// # Errors
/// Of reading the lines, or of `out`.
pub(super) fn print<T: Printed>(
    topic: &str,
    totals: &Totals,
    lines: impl Iterator<Item = io::Result<T>>,
    json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if json {
        let report = Report {
            topic,
            totals,
            lines: AsTheyCome(RefCell::new(lines)),
        };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
        return out.flush();
    }
    let width = totals.width.clamp(WIDTH.0, WIDTH.1);
    T::heads(out, width)?;
    for line in lines {
        line?.text(out, width)?;
    }
    writeln!(
        out,
        "\n{} partitions, {} generations ({} more complete and forgotten), {} records, {} re-sent records skipped",
        totals.partitions,
        totals.generations,
        totals.retired_generations,
        totals.records + totals.retired_records,
        totals.duplicates,
    )?;
    if totals.unaccounted > 0 {
        writeln!(
            out,
            "{} records and notices of streams that a ledger had no room for (limits.ledger), or whose hw- headers could not be read: the records are stored, and nobody can say whether all came, or came once",
            totals.unaccounted
        )?;
    }
    writeln!(out, "unexplained gaps: {}", totals.unexplained_gaps)?;
    out.flush()
}

/// The JSON object.
struct Report<'a, I> {
    topic: &'a str,
    totals: &'a Totals,
    lines: AsTheyCome<I>,
}

impl<T: Printed, I: Iterator<Item = io::Result<T>>> Serialize for Report<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("Report", 7)?;
        report.serialize_field("topic", self.topic)?;
        report.serialize_field("partitions", &self.totals.partitions)?;
        report.serialize_field(T::NAME, &self.lines)?;
        report.serialize_field("retired_generations", &self.totals.retired_generations)?;
        report.serialize_field("retired_records", &self.totals.retired_records)?;
        report.serialize_field("unaccounted", &self.totals.unaccounted)?;
        report.serialize_field("unexplained_gaps", &self.totals.unexplained_gaps)?;
        report.end()
    }
}

/// Written while they come. An error of reading them ends it, and stands in the error.
struct AsTheyCome<I>(RefCell<I>);

impl<T: Printed, I: Iterator<Item = io::Result<T>>> Serialize for AsTheyCome<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for line in &mut *self.0.borrow_mut() {
            let line = line.map_err(S::Error::custom)?;
            seq.serialize_element(&line.json())?;
        }
        seq.end()
    }
}
