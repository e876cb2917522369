//! The RAM window: one bound, in bytes, on everything between a source and its settlement.
//!
//! A source takes a [`Permit`] before it fills a batch; the permit rides in the batch and gives its
//! bytes back when it is dropped. Files and journals wait for room (they are the buffer); a sensor asks
//! once, since it has nothing to wait with, and waits a moment where the kernel collects meanwhile.
//!
//! Each lane's files and journals have a share, and so have each lane's sensors: an eighth, where there are
//! any. It is no bound on them, but a promise: who takes leaves free what those that he gives way to have not
//! taken of theirs. Everybody gives way to the higher lanes, and who can wait to sensors. So a lane that is
//! held up, with all the window that it may have in batches that cannot go, does not hold up those above it;
//! and where there is one lane, it has all.

mod shares;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::shares::Shares;
use self::shares::{Taker, Window};
use crate::spool::Lane;

/// A bound in bytes that batches share.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    taker: Taker,
    bytes: usize,
}

#[derive(Debug)]
struct Shared {
    window: Mutex<Window>,
    freed: Condvar,
}

impl Shared {
    /// A panic elsewhere changes no sum.
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    /// A budget of `total` bytes, all of it for everybody.
    pub fn new(total: usize) -> Self {
        Self::with_shares(total, Shares::default())
    }

    /// A budget of `total` bytes, with shares.
    pub fn with_shares(total: usize, shares: Shares) -> Self {
        let shared = Shared {
            window: Mutex::new(Window::new(total, shares)),
            freed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Others have shares from now on.
    pub fn set_shares(&self, shares: Shares) {
        self.shared.window().set_shares(shares);
        self.shared.freed.notify_all();
    }

    /// Takes `bytes` for a lane's sensors, if they are free for these.
    pub fn try_take(&self, lane: Lane, bytes: usize) -> Option<Permit> {
        self.take_for(Taker::sampling(lane), bytes, Duration::ZERO)
    }

    /// As [`Budget::try_take`], waiting up to `patience`: for a sensor's last word, and for what the
    /// kernel collected.
    pub fn take_last(&self, lane: Lane, bytes: usize, patience: Duration) -> Option<Permit> {
        self.take_for(Taker::sampling(lane), bytes, patience)
    }

    /// Takes `bytes` for a lane's files and journals, waiting up to `patience` for them. The caller asks
    /// again, and looks between two tries whether it should stop.
    pub fn take(&self, lane: Lane, bytes: usize, patience: Duration) -> Option<Permit> {
        self.take_for(Taker::waiting(lane), bytes, patience)
    }

    fn take_for(&self, taker: Taker, wish: usize, patience: Duration) -> Option<Permit> {
        let is_full = |window: &mut Window| window.grant(taker, wish).is_none();
        let (mut window, _) = (self.shared.freed)
            .wait_timeout_while(self.shared.window(), patience, is_full)
            .unwrap_or_else(PoisonError::into_inner);
        let bytes = window.grant(taker, wish)?;
        window.take(taker, bytes);
        Some(Permit {
            shared: Arc::clone(&self.shared),
            taker,
            bytes,
        })
    }

    /// Bytes that are taken now.
    pub fn used(&self) -> usize {
        self.shared.window().used()
    }
}

impl Permit {
    /// What it is for, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `bytes` and gives the rest back: a batch may come out smaller than was asked for.
    pub fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.give_back(spare);
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.shared.window().give_back(self.taker, bytes);
        self.shared.freed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Lane::{High, Low, Normal};

    fn take(budget: &Budget, lane: Lane, bytes: usize) -> Option<Permit> {
        budget.take(lane, bytes, Duration::ZERO)
    }

    /// How much one gets in pieces of `bytes`.
    fn fill(
        budget: &Budget,
        one: impl Fn(&Budget, usize) -> Option<Permit>,
        bytes: usize,
    ) -> Vec<Permit> {
        std::iter::from_fn(|| one(budget, bytes)).collect()
    }

    fn lanes(waiting: &[Lane], sampling: &[Lane]) -> Shares {
        let mut shares = Shares::default();
        for lane in waiting {
            shares.waiting[lane.index()] = true;
        }
        for lane in sampling {
            shares.sampling[lane.index()] = true;
        }
        shares
    }

    #[test]
    fn permits_come_back() {
        let budget = Budget::new(100);
        let mut first = budget.try_take(Normal, 80).unwrap();
        assert!(budget.try_take(Normal, 30).is_none());
        assert!(budget.take(Normal, 30, Duration::from_millis(1)).is_none());
        first.shrink(50);
        let second = take(&budget, Normal, 50).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
        let all = budget.try_take(Normal, 1000);
        assert_eq!(all.map(|all| all.bytes), Some(100));
    }

    #[test]
    fn one_lane_has_all_but_what_is_left_to_its_sensors() {
        for lane in Lane::ALL {
            let budget = Budget::with_shares(800, lanes(&[lane], &[]));
            assert_eq!(take(&budget, lane, 1000).unwrap().bytes, 800);
            budget.set_shares(lanes(&[lane], &[lane]));
            let file = take(&budget, lane, 1000).unwrap();
            assert_eq!(file.bytes, 700, "no wish is too large to be met");
            assert!(take(&budget, lane, 1).is_none());
            let samples = fill(&budget, |budget, bytes| budget.try_take(lane, bytes), 10);
            assert_eq!(samples.len(), 10);
            drop((file, samples));
            let samples = fill(&budget, |budget, bytes| budget.try_take(lane, bytes), 10);
            assert_eq!(samples.len(), 80, "where files leave more, it is theirs");
        }
    }

    /// Whoever has filled the window as far as he may, those that he gives way to have their share still.
    #[test]
    fn nobody_takes_the_share_of_those_he_gives_way_to() {
        let budget = Budget::with_shares(800, lanes(&Lane::ALL, &Lane::ALL));
        let files = |lane| move |budget: &Budget, bytes| take(budget, lane, bytes);
        let samples = |lane| move |budget: &Budget, bytes| budget.try_take(lane, bytes);
        let low = fill(&budget, files(Low), 10);
        assert_eq!(low.len(), 30, "five shares are left");
        let normal = fill(&budget, files(Normal), 10);
        let high = fill(&budget, files(High), 10);
        let of_low = fill(&budget, samples(Low), 10);
        let of_normal = fill(&budget, samples(Normal), 10);
        let of_high = fill(&budget, samples(High), 10);
        let all = [&normal, &high, &of_low, &of_normal, &of_high];
        assert_eq!(all.map(|one| one.len()), [10; 5]);
        assert_eq!(budget.used(), 800);
        // What is given back is there for whoever is to have it first.
        drop(low);
        drop(of_high);
        assert_eq!(fill(&budget, files(Low), 10).len(), 30);
        assert_eq!(fill(&budget, samples(Low), 10).len(), 30);
        assert_eq!(fill(&budget, samples(High), 10).len(), 40);
    }

    #[test]
    fn what_a_higher_lane_has_of_its_share_is_not_kept_twice() {
        let budget = Budget::with_shares(800, lanes(&[High, Normal], &[]));
        let alarm = take(&budget, High, 60).unwrap();
        let rest = fill(&budget, |budget, bytes| take(budget, Normal, bytes), 10);
        assert_eq!(rest.len(), 70);
        assert!(take(&budget, High, 40).is_some());
        drop(alarm);
        assert!(take(&budget, Normal, 1).is_none());
        assert!(take(&budget, High, 100).is_some());
    }

    /// A record that is longer than a share does not wait for lower lanes; a second one waits for the first.
    #[test]
    fn whoever_has_nothing_begins_with_his_share() {
        let budget = Budget::with_shares(800, lanes(&[High, Normal], &[]));
        let normal = take(&budget, Normal, 1000).unwrap();
        assert_eq!(normal.bytes, 700);
        let long = take(&budget, High, 300).unwrap();
        assert_eq!(long.bytes, 100);
        assert!(take(&budget, High, 300).is_none());
        drop(long);
        let short = take(&budget, High, 10);
        assert!(take(&budget, High, 300).is_none());
        drop((short, normal));
        assert_eq!(take(&budget, High, 300).unwrap().bytes, 300);
    }

    #[test]
    fn a_waiter_is_woken() {
        let budget = Budget::new(10);
        let held = budget.try_take(Normal, 10).unwrap();
        let waiting = budget.clone();
        let patience = Duration::from_secs(60);
        let waiter = std::thread::spawn(move || waiting.take(Normal, 10, patience).is_some());
        drop(held);
        assert!(waiter.join().unwrap());
    }
}
