//! The flash governor: a budget of bytes written a day. As it is used up, commits come less often and
//! so gather more; when it is gone, nothing is written until some of it has come back. Pure.
//!
//! The budget is a bucket that holds one day's bytes and fills evenly over the day, also while the device
//! is suspended. What was written
//! is what the kernel counts for the process, not an estimate. What a commit wrote beyond what was left
//! is a debt, and is paid before anything comes back. A restart goes on with what was left at the
//! last commit before it, and with what has come back since.

use std::time::Duration;

use headwater_record::value::CLOCK_SET_MS;

use crate::clock::Monotonic;
use crate::spool::Used;

/// This budget's number in the database.
pub(crate) const BUDGET: u8 = 3;
const DAY_MS: u128 = 24 * 60 * 60 * 1000;
/// A debt of more than one part of so many of a day's bytes is said.
const OVERDRAWN_PART: u64 = 8;
/// Commits are at most so many times rarer than they are configured.
const STRETCH_MAX: u32 = 16;

/// The governor. Without a budget it changes nothing.
#[derive(Debug, Default)]
pub(super) struct Flash {
    per_day: Option<u64>,
    /// What may still be written.
    level: u64,
    /// What was written beyond it.
    debt: u64,
    filled: Monotonic,
    /// What the kernel had counted when it was last told.
    written: Option<u64>,
    stretch: u32,
    /// That more was written than there was is said.
    overdrawn: bool,
}

impl Flash {
    pub(super) fn new(per_day: Option<u64>) -> Self {
        Self {
            per_day,
            level: per_day.unwrap_or(0),
            stretch: 1,
            ..Self::default()
        }
    }

    /// Goes on with what an earlier run left: as much less has come back as time has passed, if the
    /// clock tells.
    pub(super) fn restore(&mut self, usage: &[Used], wall_ms: u64, now: Monotonic) {
        let used = usage.iter().find(|used| used.budget == BUDGET);
        let (Some(per_day), Some(used)) = (self.per_day, used) else {
            return;
        };
        let known = used.at_ms >= CLOCK_SET_MS && wall_ms >= CLOCK_SET_MS;
        let since = if known {
            wall_ms.saturating_sub(used.at_ms)
        } else {
            0
        };
        let gained = u128::from(per_day) * u128::from(since) / DAY_MS;
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let balance = used.bytes.saturating_add(gained);
        self.level = u64::try_from(balance).unwrap_or(0).min(per_day);
        self.debt = u64::try_from(balance.saturating_neg()).unwrap_or(0);
        self.filled = now;
        self.stretch = self.stretch_now(per_day);
    }

    /// What is left, for the next run, and the least change of it that is worth a write.
    pub(super) fn usage(&self, wall_ms: u64, now: Monotonic) -> Option<(Used, u64)> {
        let per_day = self.per_day?;
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let used = Used {
            budget: BUDGET,
            at_ms: wall_ms.saturating_sub(now.0.saturating_sub(self.filled.0)),
            bytes: signed(self.level).saturating_sub(signed(self.debt)),
        };
        Some((used, per_day / 256))
    }

    /// What is left of the budget, bytes; none where there is none.
    pub(super) fn left(&self) -> Option<u64> {
        self.per_day.map(|_| self.level)
    }

    /// The process has written so many bytes in all. Returns how many times rarer commits are from
    /// now on, where that has changed.
    pub(super) fn wrote(&mut self, written: u64, now: Monotonic) -> Option<u32> {
        let per_day = self.per_day?;
        // Where nothing is left, nothing is given back before the wait is over: see `turn`.
        if self.not_before() <= now {
            self.fill(per_day, now);
        }
        let before = self.written.unwrap_or(written);
        let new = written.saturating_sub(before);
        // What an answer tells was counted before it waited to be read.
        self.written = Some(written.max(before));
        self.debt = self.debt.saturating_add(new.saturating_sub(self.level));
        self.level = self.level.saturating_sub(new);
        let stretch = self.stretch_now(per_day);
        (std::mem::replace(&mut self.stretch, stretch) != stretch).then_some(stretch)
    }

    /// What was written beyond the budget, and is not paid yet.
    pub(super) fn debt(&self) -> u64 {
        self.debt
    }

    /// The same, where it is as much as an eighth of a day's bytes: once, until all of it is paid.
    pub(super) fn overdrawn(&mut self) -> Option<u64> {
        let per_day = self.per_day?;
        self.overdrawn &= self.debt > 0;
        let is_news = self.debt > per_day / OVERDRAWN_PART && !self.overdrawn;
        self.overdrawn |= is_news;
        is_news.then_some(self.debt)
    }

    /// The device was suspended for so long: the day has gone on.
    pub(super) fn slept(&mut self, period: Duration) {
        if let Some(per_day) = self.per_day {
            self.gain(per_day, u128::from(per_day) * period.as_millis() / DAY_MS);
            self.stretch = self.stretch_now(per_day);
        }
    }

    fn fill(&mut self, per_day: u64, now: Monotonic) {
        let since = u128::from(now.0.saturating_sub(self.filled.0));
        let gained = u128::from(per_day) * since / DAY_MS;
        if gained > 0 {
            self.filled = now;
            self.gain(per_day, gained);
        }
    }

    fn gain(&mut self, per_day: u64, gained: u128) {
        let paid = u128::from(self.debt).min(gained);
        self.debt -= u64::try_from(paid).unwrap_or(self.debt);
        let level = u128::from(self.level) + (gained - paid);
        self.level = u64::try_from(level).unwrap_or(u64::MAX).min(per_day);
    }

    /// 1 while half of the budget is left, twice for each half of that.
    fn stretch_now(&self, per_day: u64) -> u32 {
        let mut stretch = 1;
        let mut mark = per_day / 2;
        while stretch < STRETCH_MAX && self.level < mark {
            (stretch, mark) = (stretch * 2, mark / 2);
        }
        stretch
    }

    /// How long a wait of `period` is now.
    pub(super) fn stretched(&self, period: Duration) -> Duration {
        period.saturating_mul(self.stretch.max(1))
    }

    /// Nothing is written before; zero while some of the budget is left.
    pub(super) fn not_before(&self) -> Monotonic {
        let Some(per_day) = self.per_day.filter(|_| self.level == 0) else {
            return Monotonic::default();
        };
        if per_day == 0 {
            return Monotonic(u64::MAX);
        }
        // Until the debt is paid and a 256th of a day's bytes is there: some minutes.
        let paid = (DAY_MS * u128::from(self.debt)).div_ceil(u128::from(per_day));
        let wait = u64::try_from(paid + DAY_MS / 256).unwrap_or(u64::MAX);
        Monotonic(self.filled.0.saturating_add(wait))
    }

    /// The wait is over: what has come back in it may be used.
    pub(super) fn turn(&mut self, now: Monotonic) {
        if let Some(per_day) = self.per_day
            && self.level == 0
            && self.not_before() <= now
        {
            self.fill(per_day, now);
            // A day of less than 256 bytes has nothing to give back in that time.
            self.level = self.level.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commits_become_rarer_and_then_stop_until_some_is_back() {
        let mut flash = Flash::new(Some(256_000));
        assert_eq!(
            flash.wrote(5_000_000, Monotonic(0)),
            None,
            "what was before is not ours"
        );
        assert_eq!(flash.wrote(5_100_000, Monotonic(0)), None);
        assert_eq!(flash.wrote(5_150_000, Monotonic(0)), Some(2));
        assert_eq!(
            flash.stretched(Duration::from_secs(2)),
            Duration::from_secs(4)
        );
        assert_eq!(flash.not_before(), Monotonic(0));
        assert_eq!(flash.wrote(5_300_000, Monotonic(0)), Some(16));
        // 44,000 bytes of debt, and a 256th of the day's.
        let back = Monotonic(24 * 60 * 60 * 1000 / 256 * 45);
        assert_eq!(flash.not_before(), back);
        flash.turn(back);
        assert_eq!((flash.not_before(), flash.level), (Monotonic(0), 1000));
        assert_eq!(flash.wrote(5_300_100, Monotonic(24 * 3_600_000)), Some(1));
        let mut none = Flash::new(None);
        assert_eq!(none.wrote(u64::MAX, Monotonic(5)), None);
        assert_eq!(
            (
                none.stretched(Duration::from_secs(2)).as_secs(),
                none.not_before()
            ),
            (2, Monotonic(0))
        );
    }

    #[test]
    fn a_day_goes_on_while_the_device_sleeps() {
        const HOUR: Duration = Duration::from_secs(3600);
        let mut flash = Flash::new(Some(240_000));
        flash.wrote(0, Monotonic(0));
        flash.wrote(250_000, Monotonic(0));
        assert_eq!((flash.level, flash.debt), (0, 10_000));
        flash.slept(HOUR / 2);
        assert_eq!((flash.level, flash.debt), (0, 5000));
        flash.slept(HOUR);
        assert_eq!((flash.level, flash.debt), (5000, 0));
        assert_eq!(flash.not_before(), Monotonic(0), "no wait is left");
        flash.slept(HOUR * 1000);
        assert_eq!(
            (flash.level, flash.stretch),
            (240_000, 1),
            "one day's at most"
        );
        Flash::new(None).slept(HOUR);
    }

    #[test]
    fn what_is_gone_comes_back_behind_the_wait_and_not_drop_by_drop() {
        let mut flash = Flash::new(Some(256_000));
        flash.wrote(0, Monotonic(0));
        flash.wrote(256_000, Monotonic(0));
        let back = flash.not_before();
        assert_eq!(back, Monotonic(24 * 60 * 60 * 1000 / 256));
        for second in (30..back.0 / 1000).step_by(30) {
            flash.wrote(256_000, Monotonic(second * 1000));
            assert_eq!((flash.not_before(), flash.level), (back, 0));
        }
        // An older count, which came later, is not told twice.
        flash.wrote(255_000, Monotonic(30_000));
        flash.wrote(256_000, Monotonic(30_000));
        assert_eq!(flash.debt(), 0);
        flash.turn(back);
        assert_eq!(flash.level, 1000);
    }

    #[test]
    fn a_restart_goes_on_with_what_was_left() {
        const WALL: u64 = CLOCK_SET_MS + 1_000_000_000;
        let mut before = Flash::new(Some(86_400));
        before.wrote(0, Monotonic(0));
        before.wrote(86_400 + 100, Monotonic(0));
        let left = before.usage(WALL + 7, Monotonic(7)).unwrap().0;
        assert_eq!(left.bytes, -100);
        let after = |wall_ms| {
            let mut flash = Flash::new(Some(86_400));
            flash.restore(&[left], wall_ms, Monotonic(5));
            (flash.level, flash.debt, flash.stretch)
        };
        assert_eq!(after(WALL), (0, 100, 16));
        assert_eq!(after(WALL + 600_000), (500, 0, 16), "ten minutes bring 600");
        assert_eq!(after(WALL + 12 * 3_600_000), (43_100, 0, 2));
        assert_eq!(after(WALL + 99 * 3_600_000), (86_400, 0, 1));
        assert_eq!(after(0), (0, 100, 16), "an unset clock brings nothing");
        assert_eq!(after(WALL - 1), (0, 100, 16));
    }

    proptest! {
        /// Whoever writes only when he may, and so much at a time, keeps to the budget over any days.
        #[test]
        fn the_budget_is_kept(per_day in 10_000_u64..1 << 30, commits in prop::collection::vec((0_u64..600_000, 1_u64..5000), 1..400)) {
            let mut flash = Flash::new(Some(per_day));
            let (mut now, mut written, mut last) = (Monotonic(0), 0, 0);
            flash.wrote(0, now);
            for (wait, bytes) in commits {
                now = Monotonic(now.0 + wait).max(flash.not_before());
                flash.turn(now);
                written += bytes;
                last = bytes;
                flash.wrote(written, now);
            }
            let days = u128::from(per_day) + u128::from(per_day) * u128::from(now.0) / DAY_MS;
            prop_assert!(u128::from(written) <= days + u128::from(last) + 400, "{} of {}", written, days);
        }
    }
}
