//! The uplink budgets: how many bytes may pass between the agent and the brokers in an hour, a day
//! and a month of the calendar (UTC). Pure.
//!
//! ```text
//!   sent ──► estimate: values as they are ─┐
//!                                          ├──► left = budget − counted − estimate
//!   librdkafka's statistics ──► counted ───┘
//! ```
//!
//! - What counts is what librdkafka says that it sent and received, each second: requests and
//!   answers, compressed, re-sends and all. TLS and TCP/IP come on top, and so do the requests for
//!   credentials.
//! - Until it says so, a batch counts with its plain bytes, which is more. So a budget is overrun by
//!   one batch at most, and by what the protocol takes besides.
//! - Each higher lane that is in use keeps a tenth of each budget for itself: a trace does not use
//!   up what an alarm will need.
//! - A clock that is set back gives nothing back.

use std::time::Duration;

use headwater_record::value::CLOCK_SET_MS;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::spool::{Lane, Used};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Of each budget, what each higher lane keeps: one part of so many.
const KEPT_PARTS: u64 = 10;
/// What was used is written down in steps of such a part of the budget.
const WRITTEN_PARTS: u64 = 256;

/// Over what a budget goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From minute 0.
    Hour,
    /// From midnight.
    Day,
    /// From midnight of its first day.
    Month,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The setting that limits it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Hour => "uplink.bytes_per_hour",
            Self::Day => "uplink.bytes_per_day",
            Self::Month => "uplink.bytes_per_month",
        }
    }

    /// Stable: it stands in the database.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Month => 2,
        }
    }

    /// The longest that one is.
    fn longest_ms(self) -> u64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
            Self::Month => 31 * DAY_MS,
        }
    }

    /// When the one that holds this moment begins, and when the next does; Unix milliseconds.
    fn around(self, wall_ms: u64) -> (u64, u64) {
        let of = |length: u64| {
            let begins = wall_ms - wall_ms % length;
            (begins, begins.saturating_add(length))
        };
        match self {
            Self::Hour => of(HOUR_MS),
            Self::Day => of(DAY_MS),
            // Beyond the year 9999 there are no months.
            Self::Month => month_around(wall_ms).unwrap_or_else(|| of(31 * DAY_MS)),
        }
    }
}

fn month_around(wall_ms: u64) -> Option<(u64, u64)> {
    let now = Timestamp::from_millisecond(i64::try_from(wall_ms).ok()?).ok()?;
    let first = Offset::UTC.to_datetime(now).date().first_of_month();
    let next = first.checked_add(Span::new().months(1)).ok()?;
    let ms = |date: Date| {
        let at = Offset::UTC.to_timestamp(date.to_datetime(Time::midnight()));
        u64::try_from(at.ok()?.as_millisecond()).ok()
    };
    Some((ms(first)?, ms(next)?))
}

/// The budgets, bytes; none: no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// In an hour.
    pub hour: Option<u64>,
    /// In a day.
    pub day: Option<u64>,
    /// In a month.
    pub month: Option<u64>,
}

impl Budgets {
    /// Whether there is any.
    pub fn is_any(self) -> bool {
        Period::ALL
            .into_iter()
            .any(|period| self.of(period).is_some())
    }

    /// The one of a period.
    pub fn of(self, period: Period) -> Option<u64> {
        match period {
            Period::Hour => self.hour,
            Period::Day => self.day,
            Period::Month => self.month,
        }
    }
}

/// How it stands with one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetUse {
    /// Of which period.
    pub period: Period,
    /// What was used of it, bytes.
    pub used_bytes: u64,
    /// The budget, bytes.
    pub max_bytes: u64,
    /// When the next begins, Unix milliseconds.
    pub ends_ms: u64,
}

/// From here downwards lanes wait, until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The highest lane that waits.
    pub lane: Lane,
    /// The budget that says so: of several the one that lasts longest.
    pub period: Period,
    /// Unix milliseconds.
    pub until_ms: u64,
    /// No lane may send.
    pub all: bool,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    period: Period,
    max: u64,
    begins_ms: u64,
    ends_ms: u64,
    used: u64,
}

/// The governor. Without budgets it allows everything.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    lines: Vec<Line>,
    /// What was handed over and is not counted yet, plain bytes.
    estimate: u64,
    /// Which lanes any source is of, by [`Lane::index`].
    in_use: [bool; Lane::COUNT],
    /// Counted since the start.
    counted: u64,
    said: Option<(Lane, Period, bool)>,
}

impl Allowance {
    pub(super) fn new(budgets: Budgets) -> Self {
        let lines = Period::ALL.into_iter().filter_map(|period| {
            Some(Line {
                period,
                max: budgets.of(period)?,
                begins_ms: 0,
                ends_ms: 0,
                used: 0,
            })
        });
        Self {
            lines: lines.collect(),
            in_use: [true, false, false],
            ..Self::default()
        }
    }

    /// Which lanes sources are of.
    pub(super) fn set_lanes(&mut self, lanes: impl Iterator<Item = Lane>) {
        let mut in_use = [false; Lane::COUNT];
        for lane in lanes {
            in_use[lane.index()] = true;
        }
        if in_use.contains(&true) {
            self.in_use = in_use;
        }
    }

    /// What an earlier run had used.
    pub(super) fn restore(&mut self, usage: &[Used]) {
        for line in &mut self.lines {
            let number = line.period.number();
            if let Some(used) = usage.iter().find(|used| used.budget == number) {
                line.begins_ms = used.at_ms;
                line.used = u64::try_from(used.bytes).unwrap_or(0);
            }
        }
    }

    /// What is to be known after a restart, and the least change of it that is worth a write.
    pub(super) fn usage(&self) -> impl Iterator<Item = (Used, u64)> {
        self.lines.iter().map(|line| {
            let used = Used {
                budget: line.period.number(),
                at_ms: line.begins_ms,
                bytes: i64::try_from(line.used).unwrap_or(i64::MAX),
            };
            (used, line.max / WRITTEN_PARTS)
        })
    }

    /// Looks at the calendar. A clock that is unset shows none.
    pub(super) fn turn(&mut self, wall_ms: u64) {
        if wall_ms < CLOCK_SET_MS {
            return;
        }
        for line in &mut self.lines {
            let (begins_ms, ends_ms) = line.period.around(wall_ms);
            if begins_ms > line.begins_ms {
                line.used = 0;
            } else if begins_ms < line.begins_ms
                && line.begins_ms - begins_ms <= line.period.longest_ms()
            {
                // Set back a little: the period that began goes on until it really ends.
                line.ends_ms = line.period.around(line.begins_ms).1;
                continue;
            }
            (line.begins_ms, line.ends_ms) = (begins_ms, ends_ms);
        }
    }

    /// A batch was handed over that takes so much as it is.
    pub(super) fn sent(&mut self, cost: usize) {
        if !self.lines.is_empty() {
            self.estimate = self.estimate.saturating_add(cost as u64);
        }
    }

    /// So many bytes more have passed, and batches of `in_flight` bytes may be among them or not.
    pub(super) fn counted(&mut self, bytes: u64, in_flight: usize) {
        self.estimate = self.estimate.min(in_flight as u64);
        self.count(bytes);
    }

    /// Nobody will count what was handed over: the client is gone.
    pub(super) fn uncounted(&mut self) {
        let bytes = std::mem::take(&mut self.estimate);
        self.count(bytes);
    }

    fn count(&mut self, bytes: u64) {
        self.counted = self.counted.saturating_add(bytes);
        for line in &mut self.lines {
            line.used = line.used.saturating_add(bytes);
        }
    }

    /// Counted since the start; none where nothing is counted.
    pub(super) fn total(&self) -> Option<u64> {
        (!self.lines.is_empty()).then_some(self.counted)
    }

    /// How it stands.
    pub(super) fn uses(&self) -> Vec<BudgetUse> {
        let of = |line: &Line| BudgetUse {
            period: line.period,
            used_bytes: line.used,
            max_bytes: line.max,
            ends_ms: line.ends_ms,
        };
        self.lines.iter().map(of).collect()
    }

    /// What is left of a budget for a lane.
    fn left(&self, line: &Line, lane: Lane) -> u64 {
        let kept = line.max / KEPT_PARTS * self.lanes_above(lane) as u64;
        line.max.saturating_sub(line.used).saturating_sub(kept)
    }

    /// How many higher lanes are in use.
    pub(super) fn lanes_above(&self, lane: Lane) -> usize {
        let above = Lane::ALL.into_iter().filter(|other| *other < lane);
        above.filter(|other| self.in_use[other.index()]).count()
    }

    /// Whether anything is left for a lane, as far as is counted.
    pub(super) fn has_left(&self, lane: Lane) -> bool {
        self.lines.iter().all(|line| self.left(line, lane) > 0)
    }

    /// Whether a batch may be handed over now: where it might not fit, what was handed over before
    /// it is counted first.
    pub(super) fn allows(&self, lane: Lane, cost: usize) -> bool {
        self.lines.iter().all(|line| {
            let left = self.left(line, lane);
            let fits = self.estimate.saturating_add(cost as u64) <= left;
            left > 0 && (fits || self.estimate == 0)
        })
    }

    /// Which lanes wait, if any.
    pub(super) fn closed(&self) -> Option<Closed> {
        let used = |lane: &Lane| self.in_use[lane.index()];
        let mut lanes = Lane::ALL.into_iter().filter(used);
        let lane = lanes.clone().find(|lane| !self.has_left(*lane))?;
        let blocking = self.lines.iter().filter(|line| self.left(line, lane) == 0);
        let line = blocking.max_by_key(|line| line.ends_ms)?;
        Some(Closed {
            lane,
            period: line.period,
            until_ms: line.ends_ms,
            all: lanes.next() == Some(lane),
        })
    }

    /// How long nothing at all may be sent; none where something may.
    pub(super) fn closed_for(&self, wall_ms: u64) -> Option<Duration> {
        let closed = self.closed().filter(|closed| closed.all)?;
        Some(Duration::from_millis(
            closed.until_ms.saturating_sub(wall_ms),
        ))
    }

    /// The same, once for each change.
    pub(super) fn news(&mut self) -> Option<Option<Closed>> {
        let closed = self.closed();
        let key = closed.map(|closed| (closed.lane, closed.period, closed.all));
        (std::mem::replace(&mut self.said, key) != key).then_some(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-25T05:10:00Z
    const NOW: u64 = 1_795_583_400_000;

    fn allowance(hour: Option<u64>, day: Option<u64>, month: Option<u64>) -> Allowance {
        let mut allowance = Allowance::new(Budgets { hour, day, month });
        allowance.turn(NOW);
        allowance
    }

    #[test]
    fn periods_are_the_calendars() {
        let text = |ms: u64| {
            Timestamp::from_millisecond(ms.cast_signed())
                .unwrap()
                .to_string()
        };
        for (period, begins, ends) in [
            (Period::Hour, "2026-11-25T05:00:00Z", "2026-11-25T06:00:00Z"),
            (Period::Day, "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"),
            (
                Period::Month,
                "2026-11-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
        ] {
            let around = period.around(NOW);
            assert_eq!(
                (text(around.0), text(around.1)),
                (begins.into(), ends.into())
            );
        }
        assert_eq!(Period::Month.around(u64::MAX / 2).0 % DAY_MS, 0);
    }

    #[test]
    fn a_budget_is_used_up_and_comes_back_with_the_next_period() {
        let mut allowance = allowance(Some(1000), None, Some(1600));
        assert!(allowance.allows(Lane::Normal, 5000), "alone, any may go");
        allowance.sent(600);
        assert!(allowance.allows(Lane::Normal, 400));
        assert!(!allowance.allows(Lane::Normal, 401), "not counted yet");
        allowance.counted(150, 0);
        assert!(allowance.allows(Lane::Normal, 850));
        allowance.counted(850, 0);
        let closed = allowance.news().unwrap().unwrap();
        assert_eq!((closed.period, closed.all), (Period::Hour, true));
        assert_eq!(allowance.news(), None, "said once");
        assert_eq!(
            allowance.closed_for(NOW),
            Some(Duration::from_secs(50 * 60))
        );
        allowance.turn(NOW + HOUR_MS);
        assert_eq!(allowance.news(), Some(None));
        allowance.counted(600, 0);
        let closed = allowance.news().unwrap().unwrap();
        assert_eq!(closed.period, Period::Month, "and of the hour 400 are left");
        assert!(allowance.closed_for(NOW).unwrap() > Duration::from_secs(5 * 24 * 3600));
    }

    #[test]
    fn higher_lanes_keep_a_tenth_each() {
        let mut allowance = allowance(None, Some(1000), None);
        allowance.set_lanes([Lane::High, Lane::Low].into_iter());
        allowance.counted(900, 0);
        assert!(!allowance.has_left(Lane::Low));
        assert!(allowance.has_left(Lane::High));
        let closed = allowance.news().unwrap().unwrap();
        assert_eq!((closed.lane, closed.all), (Lane::Low, false));
        assert_eq!(allowance.closed_for(NOW), None);
        allowance.counted(100, 0);
        assert!(allowance.news().unwrap().unwrap().all);
    }

    #[test]
    fn it_survives_a_restart_and_a_clock_that_goes_back() {
        let mut before = allowance(Some(1000), Some(5000), None);
        before.sent(300);
        before.counted(100, 200);
        before.uncounted();
        let usage: Vec<_> = before.usage().map(|(used, _)| used).collect();
        let mut after = Allowance::new(Budgets {
            hour: Some(1000),
            day: Some(5000),
            month: Some(9),
        });
        after.restore(&usage);
        after.turn(0);
        after.turn(NOW);
        let used = |allowance: &Allowance| -> Vec<_> {
            allowance
                .uses()
                .iter()
                .map(|used| used.used_bytes)
                .collect()
        };
        assert_eq!(used(&after), [300, 300, 0]);
        after.turn(NOW - HOUR_MS);
        assert_eq!(used(&after), [300, 300, 0]);
        after.turn(NOW + 1);
        assert_eq!(used(&after), [300, 300, 0], "back and forth gives nothing");
        after.turn(NOW - 3 * HOUR_MS);
        assert_eq!(used(&after), [300, 300, 0], "and far back neither");
        after.turn(NOW + 7 * HOUR_MS);
        assert_eq!(used(&after), [0, 300, 0]);
        let mut none = Allowance::new(Budgets::default());
        none.sent(usize::MAX);
        assert!(none.allows(Lane::Low, usize::MAX) && none.closed().is_none());
        assert_eq!(none.total(), None);
    }

    proptest! {
        /// Whoever sends only what is allowed keeps to each budget, but for a batch, whatever the
        /// clients make of it and however often the agent starts again.
        #[test]
        fn the_budgets_are_kept(
            max in 1000_u64..100_000,
            steps in prop::collection::vec((0_u64..20 * 60_000, 1_usize..3000, 0_u64..100, any::<bool>()), 1..300),
        ) {
            let budgets = Budgets { hour: Some(max), day: Some(max * 3), month: None };
            let mut allowance = Allowance::new(budgets);
            let (mut now, mut sent, mut pending) = (NOW, Vec::new(), 0);
            for (wait, cost, percent, restarts) in steps {
                now += wait;
                allowance.turn(now);
                if allowance.allows(Lane::Normal, cost) {
                    allowance.sent(cost);
                    let bytes = cost as u64 * percent / 100;
                    sent.push((now, bytes));
                    pending += bytes;
                    if restarts {
                        allowance.counted(std::mem::take(&mut pending), 0);
                        let usage: Vec<_> = allowance.usage().map(|(used, _)| used).collect();
                        allowance = Allowance::new(budgets);
                        allowance.restore(&usage);
                    }
                } else if allowance.estimate > 0 {
                    allowance.uncounted();
                    pending = 0;
                }
            }
            for (length, max) in [(HOUR_MS, max), (DAY_MS, max * 3)] {
                let mut sums = std::collections::BTreeMap::new();
                for (at, bytes) in &sent {
                    *sums.entry(at / length).or_insert(0) += bytes;
                }
                prop_assert!(sums.values().all(|sum| *sum <= max + 3000), "{:?} of {}", sums, max);
            }
        }
    }
}
