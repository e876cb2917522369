//! Which windows close at the end of a batch, and in which order where there is not room for all.

use super::{OfStep, Window, WindowRow, Windows};
use crate::aggregate::Aggregate;

/// What closes the windows of a step.
struct By<'a> {
    aggregate: &'a Aggregate,
    /// Its place among the steps.
    at: usize,
    /// The pipeline has it no longer, and this is the path that it names.
    gone: Option<Option<String>>,
    /// All of its windows are due.
    all: bool,
}

/// A window that is to close.
struct Due<'a> {
    /// It closes for its step's memory alone: its time is not over.
    is_early: bool,
    start: i64,
    by: &'a By<'a>,
    key: &'a str,
    window: &'a mut Window,
}

/// What of a step's windows that were due stays open.
#[derive(Debug, Default, Clone, Copy)]
struct Left {
    any: bool,
    /// One that does not close for memory alone.
    over: bool,
}

impl Windows {
    /// Closes what is due at the end of a batch with this clock, and all of steps that `aggregates` does not
    /// have; without a clock, all. `take` gets each row, and says whether there is room for one more.
    ///
    /// Up to `few` close in the order of steps, groups and time. Of more, the oldest close first, whichever
    /// group they are of, and behind them the oldest of those that only memory closes: in any other order the
    /// same groups, due again and again, would keep the others open for ever. What there is no room for stays
    /// open, and [`Self::are_left`] says so. Returns whether there were more than `few`.
    pub fn close<'a>(
        &mut self,
        aggregates: impl Iterator<Item = &'a Aggregate>,
        clock_ms: Option<u64>,
        few: usize,
        mut take: impl FnMut(WindowRow) -> bool,
    ) -> bool {
        let current: Vec<&Aggregate> = aggregates.collect();
        let gone = self.steps.iter().skip(current.len());
        // Each ran once, so it can be made ready.
        let gone: Vec<Option<Aggregate>> = gone
            .map(|step| Aggregate::new(step.step.clone()).ok())
            .collect();
        let ran = current.iter().map(|aggregate| Some(*aggregate));
        let ran = ran.chain(gone.iter().map(Option::as_ref));
        let by = self.steps.iter().zip(ran).enumerate();
        let by: Vec<By<'_>> = by
            .filter_map(|(at, (step, aggregate))| {
                let gone = (at >= current.len()).then(|| step.step.path.clone());
                Some(By {
                    aggregate: aggregate?,
                    at,
                    all: gone.is_some() || step.is_full() || clock_ms.is_none(),
                    gone,
                })
            })
            .collect();
        let (left, are_many) = self.close_due(&by, clock_ms, few, &mut take);
        for by in &by {
            if let (Some(step), Some(left)) = (self.steps.get_mut(by.at), left.get(by.at)) {
                step.settle(by, clock_ms, *left);
            }
        }
        self.steps.retain(|step| !step.groups.is_empty());
        are_many
    }

    /// Whether some that are over had no room when a batch closed: the next one closes them, and is full with its
    /// first record for that.
    pub fn are_left(&self) -> bool {
        self.steps.iter().any(|step| step.left)
    }

    /// Closes all, whatever room there is.
    pub fn close_all<'a>(
        &mut self,
        aggregates: impl Iterator<Item = &'a Aggregate>,
    ) -> Vec<WindowRow> {
        let mut rows = Vec::new();
        self.close(aggregates, None, usize::MAX, |row| {
            rows.push(row);
            true
        });
        rows
    }

    /// Gives the rows of what is due, and marks it. Returns what is left of each step, and whether there were more
    /// than `few`.
    fn close_due(
        &mut self,
        by: &[By<'_>],
        clock_ms: Option<u64>,
        few: usize,
        take: &mut impl FnMut(WindowRow) -> bool,
    ) -> (Vec<Left>, bool) {
        let mut left = vec![Left::default(); self.steps.len()];
        let mut due = Vec::new();
        let mut rest = by.iter().peekable();
        for (at, step) in self.steps.iter_mut().enumerate() {
            if let Some(by) = rest.next_if(|by| by.at == at) {
                step.due(by, clock_ms, &mut due);
            }
        }
        let are_many = due.len() > few;
        if are_many {
            // It is stable: what is equally old stays in the order of steps and groups.
            due.sort_by_key(|due| (due.is_early, due.start));
        }
        let mut has_room = true;
        for due in due {
            if has_room {
                has_room = take(WindowRow {
                    slot: due.by.gone.is_none().then_some(due.by.at),
                    path: due.by.gone.clone().flatten(),
                    row: due.window.close(due.by.aggregate, due.key, due.start),
                });
            } else if let Some(left) = left.get_mut(due.by.at) {
                left.any = true;
                left.over |= !due.is_early;
            }
        }
        (left, are_many)
    }
}

impl OfStep {
    /// Adds its windows that are due, in the order of groups and time.
    fn due<'a>(&'a mut self, by: &'a By<'a>, clock_ms: Option<u64>, due: &mut Vec<Due<'a>>) {
        let idle_ms = by.aggregate.file.idle.as_millis();
        for (key, group) in &mut self.groups {
            let is_quiet = group.is_quiet(clock_ms, idle_ms);
            for (start, window) in &mut group.windows {
                if !window.is_open() {
                    continue;
                }
                let is_over = window.late || by.aggregate.is_over(*start, group.newest_ms);
                let is_early = !(is_over || is_quiet || by.gone.is_some());
                if by.all || !is_early {
                    due.push(Due {
                        is_early,
                        start: *start,
                        by,
                        key,
                        window,
                    });
                }
            }
        }
    }

    /// Drops what was closed.
    fn settle(&mut self, by: &By<'_>, clock_ms: Option<u64>, left: Left) {
        self.left = left.over;
        if by.all && !left.any {
            // Groups take memory too; which are late is forgotten with them.
            self.groups.clear();
            self.held = 0;
            return;
        }
        let idle_ms = by.aggregate.file.idle.as_millis();
        let past_ms = idle_ms.saturating_add(by.aggregate.revise_ms);
        // Nothing is kept of what closes for memory, or with its step.
        let keeps = by.aggregate.revise_ms > 0 && !by.all;
        self.groups.retain(|_, group| {
            // Batches come in the order of their records: one that was seen later than now was seen by a clock that was
            // ahead, and would not be quiet until that is reached.
            group.seen_ms = group.seen_ms.min(clock_ms.unwrap_or(u64::MAX));
            let (is_past, newest_ms) = (group.is_quiet(clock_ms, past_ms), group.newest_ms);
            group.windows.retain(|start, window| {
                let is_kept = keeps && !window.late && !is_past;
                window.is_open() || (is_kept && !by.aggregate.is_past(*start, newest_ms))
            });
            // What is quiet and has nothing open is forgotten.
            !(group.is_quiet(clock_ms, idle_ms) && group.windows.is_empty())
        });
        self.held = self.measure();
    }
}
