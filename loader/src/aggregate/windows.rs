//! The open windows of one partition: a part of its state, beside the ledger. A plain value: the same
//! records, batch clocks and pipelines make the same windows and close them with the same rows, so
//! that a successor goes on from a snapshot, and a batch that is made again is the same.

use std::collections::BTreeMap;

use headwater_record::steps::{Row, get};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::Cell;
use super::{Aggregate, AggregateFile, END, LATE, START};

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
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    /// Newest event time, Unix milliseconds; never above the batch clock, so that one device whose
    /// clock is ahead does not close everybody's windows.
    newest_ms: i64,
    /// Batch clock of its last record, Unix milliseconds.
    seen_ms: u64,
    /// By start, Unix milliseconds.
    windows: BTreeMap<i64, Window>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Window {
    /// Whether it was closed before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
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
            let windows = step
                .groups
                .values()
                .flat_map(|group| group.windows.values());
            Aggregate::new(step.step.clone()).is_ok_and(|aggregate| {
                let mut cells = windows.map(|window| window.cells.len());
                cells.all(|cells| cells == aggregate.compute.len())
            })
        })
    }

    /// Open windows.
    pub fn len(&self) -> usize {
        let groups = self.steps.iter().flat_map(|step| step.groups.values());
        groups.map(|group| group.windows.len()).sum()
    }

    /// Memory that they take, about, bytes.
    pub fn held(&self) -> usize {
        self.steps.iter().map(|step| step.held).sum()
    }

    /// Whether a step's windows take more than it may: the batch has to end, and they with it.
    pub fn are_full(&self) -> bool {
        self.steps.iter().any(OfStep::is_full)
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

    /// Closes what is due at the end of a batch with this clock, and all of steps that `aggregates` does not
    /// have; without a clock, all. In the order of steps, groups and time. `take` gets each row, and says
    /// whether there is room for one more: where there is none the rest stays open, and is due at the end of
    /// the next batch. Returns whether something was left.
    pub fn close<'a>(
        &mut self,
        aggregates: impl Iterator<Item = &'a Aggregate>,
        clock_ms: Option<u64>,
        mut take: impl FnMut(WindowRow) -> bool,
    ) -> bool {
        let mut aggregates = aggregates.fuse();
        let mut closing = Closing::Going;
        for (slot, step) in self.steps.iter_mut().enumerate() {
            let row =
                |slot: Option<usize>, path: Option<String>, row| WindowRow { slot, path, row };
            match aggregates.next() {
                Some(aggregate) => {
                    let full = step.is_full() || clock_ms.is_none();
                    step.close(aggregate, (clock_ms, full), &mut closing, |made| {
                        take(row(Some(slot), None, made))
                    });
                    if full && closing != Closing::Left {
                        // Groups take memory too; which are late is forgotten with them.
                        step.forget();
                    }
                }
                None => {
                    // It ran once, so it can be made ready.
                    let Ok(old) = Aggregate::new(step.step.clone()) else {
                        continue;
                    };
                    let path = step.step.path.clone();
                    step.close(&old, (clock_ms, true), &mut closing, |made| {
                        take(row(None, path.clone(), made))
                    });
                    if closing != Closing::Left {
                        step.forget();
                    }
                }
            }
        }
        self.steps.retain(|step| !step.groups.is_empty());
        closing == Closing::Left
    }

    /// Closes all, whatever room there is.
    pub fn close_all<'a>(
        &mut self,
        aggregates: impl Iterator<Item = &'a Aggregate>,
    ) -> Vec<WindowRow> {
        let mut rows = Vec::new();
        self.close(aggregates, None, |row| {
            rows.push(row);
            true
        });
        rows
    }
}

/// How far the windows of a batch are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// There is room.
    Going,
    /// There is none for another row.
    Full,
    /// And a window that is due stays open for it.
    Left,
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
        group.seen_ms = group.seen_ms.max(clock_ms);
        // The last window that holds it starts here, those before it each `every` earlier.
        let last = at_ms.div_euclid(aggregate.every_ms) * aggregate.every_ms;
        let mut start = last;
        while at_ms - start < aggregate.window_ms {
            let late = aggregate.is_over(start, group.newest_ms);
            let window = group.windows.entry(start).or_insert_with(|| {
                let cells = aggregate.compute.iter();
                self.held += WINDOW_BYTES + CELL_BYTES * aggregate.compute.len();
                Window {
                    late,
                    cells: cells.map(|compute| Cell::new(compute.function)).collect(),
                }
            });
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

    fn close(
        &mut self,
        aggregate: &Aggregate,
        (clock_ms, all): (Option<u64>, bool),
        closing: &mut Closing,
        mut take: impl FnMut(Row) -> bool,
    ) {
        let idle = aggregate.file.idle.as_millis();
        let clock_ms = clock_ms.unwrap_or(0);
        self.groups.retain(|key, group| {
            let quiet = clock_ms.saturating_sub(group.seen_ms) >= idle;
            let newest_ms = group.newest_ms;
            group.windows.retain(|start, window| {
                let over = window.late || aggregate.is_over(*start, newest_ms);
                if !(over || quiet || all) {
                    return true;
                }
                if *closing != Closing::Going {
                    *closing = Closing::Left;
                    return true;
                }
                if !take(window.row(aggregate, key, *start)) {
                    *closing = Closing::Full;
                }
                false
            });
            // What is quiet and has nothing open is forgotten.
            !(quiet && group.windows.is_empty())
        });
        self.held = self.measure();
    }

    fn forget(&mut self) {
        self.groups.clear();
        self.held = 0;
    }

    /// Memory as it is after some were closed.
    fn measure(&self) -> usize {
        let cells = CELL_BYTES * self.step.compute.len();
        let of = |(key, group): (&str, &Group)| {
            GROUP_BYTES + key.len() + group.windows.len() * (WINDOW_BYTES + cells)
        };
        let windows = self
            .groups
            .values()
            .flat_map(|group| group.windows.values());
        let seen: usize = windows
            .flat_map(|window| &window.cells)
            .map(Cell::held)
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
}

impl Window {
    fn row(&self, aggregate: &Aggregate, key: &str, start: i64) -> Row {
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
        for (compute, cell) in aggregate.compute.iter().zip(&self.cells) {
            row.insert(compute.name.clone(), cell.value(compute.q));
        }
        if self.late {
            row.insert(LATE.into(), true.into());
        }
        row
    }
}
