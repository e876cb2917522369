//! The open windows of one partition: a part of its state, beside the ledger. A plain value: the same
//! records, batch clocks and pipelines make the same windows and close them with the same rows, so
//! that a successor goes on from a snapshot, and a batch that is made again is the same.

mod closing;

use std::collections::BTreeMap;

use headwater_record::steps::{Row, get};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::Cell;
use super::{Aggregate, AggregateFile, END, LATE, REVISION, START};

/// Memory that a group and a window take beside what is counted, about, bytes.
const GROUP_BYTES: usize = 200;
const WINDOW_BYTES: usize = 100;
const CELL_BYTES: usize = 64;

/// The open windows of one partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Windows {
    /// Of each aggregate of the pipeline that was last run, in its order; then those of steps that it
    /// has no longer, until they are closed.
    steps: Vec<OfStep>,
}

/// The windows of one step. It is known by what is written of it: another step, other windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OfStep {
    step: AggregateFile,
    /// By the values of its fields, as a JSON array.
    groups: BTreeMap<Box<str>, Group>,
    /// Memory, about, bytes.
    held: usize,
    /// Whether one that is over had no room when a batch closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    /// Newest event time, Unix milliseconds; never above the batch clock, so that one device whose
    /// clock is ahead does not close everybody's windows.
    newest_ms: i64,
    /// Batch clock of its last record, or of a batch behind it whose clock was earlier, Unix milliseconds.
    seen_ms: u64,
    /// By start, Unix milliseconds.
    windows: BTreeMap<i64, Window>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Window {
    /// Whether it was closed before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    /// Of records that no row of it has; none where it is closed.
    cells: Vec<Cell>,
    /// What its rows say already, where it may be said anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<Said>,
}

/// What the newest row of a closed window says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Said {
    /// How many rows there were before it.
    revision: u32,
    cells: Vec<Cell>,
}

/// A closed window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowRow {
    /// Its place among the aggregates of the pipeline; none for one that it has no longer.
    pub slot: Option<usize>,
    /// The path that its step names, where that is no longer in the pipeline.
    pub path: Option<String>,
    /// The row.
    pub row: Row,
}

impl Windows {
    /// Whether nothing is open and nothing remembered.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.groups.is_empty())
    }

    /// Whether they can be gone on with: of steps that can run, with a cell for each value. What was
    /// read from a snapshot may be damaged.
    pub fn are_sound(&self) -> bool {
        self.steps.iter().all(|step| {
            let mut windows = step
                .groups
                .values()
                .flat_map(|group| group.windows.values());
            Aggregate::new(step.step.clone()).is_ok_and(|aggregate| {
                let whole = aggregate.compute.len();
                let is_sound = |window: &Window| match &window.said {
                    Some(said) => {
                        let open = window.cells.len();
                        said.cells.len() == whole && (open == 0 || open == whole)
                    }
                    None => window.cells.len() == whole,
                };
                windows.all(is_sound)
            })
        })
    }

    /// Open windows.
    pub fn len(&self) -> usize {
        let groups = self.steps.iter().flat_map(|step| step.groups.values());
        let windows = groups.flat_map(|group| group.windows.values());
        windows.filter(|window| window.is_open()).count()
    }

    /// Memory that they take, about, bytes.
    pub fn held(&self) -> usize {
        self.steps.iter().map(|step| step.held).sum()
    }

    /// Whether a step's windows take more than it may: the batch has to end, and they with it.
    pub fn are_full(&self) -> bool {
        self.steps.iter().any(OfStep::is_full)
    }

    /// The batch clock from which on a group with open windows is quiet, or at once where some that are over had no
    /// room; none where no window is open.
    pub fn quiet_from(&self) -> Option<u64> {
        let from = |step: &OfStep| {
            let idle_ms = step.step.idle.as_millis();
            let open = step
                .groups
                .values()
                .filter(|group| group.windows.values().any(Window::is_open));
            let quiet = open
                .map(|group| group.seen_ms.saturating_add(idle_ms))
                .min();
            if step.left { Some(0) } else { quiet }
        };
        self.steps.iter().filter_map(from).min()
    }

    /// Puts the windows of a pipeline's aggregates into their places. Before its first record.
    pub fn align<'a>(&mut self, aggregates: impl Iterator<Item = &'a Aggregate>) {
        let mut before = std::mem::take(&mut self.steps);
        for aggregate in aggregates {
            let known = before
                .iter()
                .position(|step| step.step == *aggregate.file());
            self.steps.push(match known {
                Some(at) => before.remove(at),
                None => OfStep {
                    step: aggregate.file().clone(),
                    groups: BTreeMap::new(),
                    held: 0,
                    left: false,
                },
            });
        }
        before.retain(|step| !step.groups.is_empty());
        self.steps.extend(before);
    }

    /// Takes a row into the windows that its time lies in.
    ///
    /// # Errors
    /// Its time cannot be read.
    pub fn add(&mut self, aggregate: &Aggregate, row: &Row, clock_ms: u64) -> Result<(), String> {
        let time = &aggregate.file.time;
        let text = get(row, time).and_then(Value::as_str);
        let text = text.ok_or_else(|| format!("its {time} is no text, and windows are of time"))?;
        let at = text
            .parse::<Timestamp>()
            .map_err(|_| format!("its {time} is no RFC 3339 time, and windows are of time"))?;
        match self.steps.get_mut(aggregate.slot) {
            Some(step) => step.add(aggregate, row, at.as_millisecond(), clock_ms),
            None => return Err("its windows were not put in their places".into()),
        }
        Ok(())
    }
}

impl OfStep {
    fn is_full(&self) -> bool {
        self.held as u64 > self.step.memory.0
    }

    fn add(&mut self, aggregate: &Aggregate, row: &Row, at_ms: i64, clock_ms: u64) {
        let by = aggregate.file.by.iter();
        let values: Vec<Value> = by.map(|field| key_part(get(row, field))).collect();
        let key = serde_json::to_string(&values).unwrap_or_default();
        let clock = i64::try_from(clock_ms).unwrap_or(i64::MAX);
        if !self.groups.contains_key(&*key) {
            self.held += GROUP_BYTES + key.len();
        }
        let group = self.groups.entry(key.into()).or_insert_with(|| Group {
            newest_ms: i64::MIN,
            seen_ms: clock_ms,
            windows: BTreeMap::new(),
        });
        // As it is: a clock that was ahead for a batch is no measure for the next ones.
        group.seen_ms = clock_ms;
        // The last window that holds it starts here, those before it each `every` earlier.
        let last = at_ms.div_euclid(aggregate.every_ms) * aggregate.every_ms;
        let mut start = last;
        while at_ms - start < aggregate.window_ms {
            let late = aggregate.is_past(start, group.newest_ms);
            let window = group.windows.entry(start).or_insert_with(|| {
                self.held += WINDOW_BYTES;
                Window {
                    late,
                    cells: Vec::new(),
                    said: None,
                }
            });
            if !window.is_open() {
                let cells = aggregate.compute.iter();
                self.held += CELL_BYTES * aggregate.compute.len();
                window.cells = cells.map(|compute| Cell::new(compute.function)).collect();
            }
            for (cell, compute) in window.cells.iter_mut().zip(&aggregate.compute) {
                let value = match &compute.field {
                    Some(field) => get(row, field).filter(|value| !value.is_null()),
                    None => Some(&Value::Bool(true)),
                };
                if let Some(value) = value {
                    self.held = self.held.saturating_add_signed(cell.add(value, at_ms));
                }
            }
            start -= aggregate.every_ms;
        }
        group.newest_ms = group.newest_ms.max(at_ms.min(clock));
    }

    /// Memory as it is after some were closed.
    fn measure(&self) -> usize {
        let of = |(key, group): (&str, &Group)| {
            GROUP_BYTES + key.len() + group.windows.len() * WINDOW_BYTES
        };
        let windows = self
            .groups
            .values()
            .flat_map(|group| group.windows.values());
        let seen: usize = windows
            .flat_map(|window| {
                let said = window.said.iter().flat_map(|said| &said.cells);
                window.cells.iter().chain(said)
            })
            .map(|cell| CELL_BYTES + cell.held())
            .sum();
        let groups = self.groups.iter().map(|(key, group)| (&**key, group));
        groups.map(of).sum::<usize>() + seen
    }
}

/// What of a group's key a value is; structures are their JSON as text, so that no key is too deep to
/// be read again.
fn key_part(value: Option<&Value>) -> Value {
    match value {
        Some(value @ (Value::Array(_) | Value::Object(_))) => value.to_string().into(),
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

impl Aggregate {
    /// Whether a window that starts there is closed, where `newest_ms` is its group's newest time.
    fn is_over(&self, start: i64, newest_ms: i64) -> bool {
        let lateness = i64::try_from(self.file.lateness.as_millis()).unwrap_or(i64::MAX);
        let over = start.saturating_add(self.window_ms);
        newest_ms >= over.saturating_add(lateness)
    }

    /// Whether its rows are not said anew any more, either.
    fn is_past(&self, start: i64, newest_ms: i64) -> bool {
        let revise = i64::try_from(self.revise_ms).unwrap_or(i64::MAX);
        self.is_over(start.saturating_add(revise), newest_ms)
    }
}

impl Group {
    /// Whether it said nothing for so long.
    fn is_quiet(&self, clock_ms: Option<u64>, idle_ms: u64) -> bool {
        clock_ms.unwrap_or(0).saturating_sub(self.seen_ms) >= idle_ms
    }
}

impl Window {
    /// Whether it has records that no row of it has.
    fn is_open(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Closes it: its row, of the whole window where that was said before.
    fn close(&mut self, aggregate: &Aggregate, key: &str, start: i64) -> Row {
        let cells = std::mem::take(&mut self.cells);
        let said = match self.said.take() {
            None => Said { revision: 0, cells },
            Some(mut said) => {
                for (said, cell) in said.cells.iter_mut().zip(cells) {
                    said.merge(cell);
                }
                said.revision = said.revision.saturating_add(1);
                said
            }
        };
        let row = self.row((aggregate, &said), key, start);
        self.said = Some(said);
        row
    }

    fn row(&self, (aggregate, said): (&Aggregate, &Said), key: &str, start: i64) -> Row {
        let mut row = Row::new();
        let time = |ms| {
            let at = Timestamp::from_millisecond(ms);
            at.map_or(Value::Null, |at| at.to_string().into())
        };
        row.insert(START.into(), time(start));
        row.insert(END.into(), time(start.saturating_add(aggregate.window_ms)));
        let values: Vec<Value> = serde_json::from_str(key).unwrap_or_default();
        for (field, value) in aggregate.file.by.iter().zip(values) {
            row.insert(field.clone(), value);
        }
        for (compute, cell) in aggregate.compute.iter().zip(&said.cells) {
            row.insert(compute.name.clone(), cell.value(compute.q));
        }
        if self.late {
            row.insert(LATE.into(), true.into());
        }
        if said.revision > 0 {
            row.insert(REVISION.into(), said.revision.into());
        }
        row
    }
}
