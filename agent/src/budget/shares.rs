//! Who has a share of the RAM window, and what somebody gets of it. Pure.

use headwater_msk::Bytes;

use crate::spool::Lane;

/// A share is one part of so many. Five give way at the most, so three parts are everybody's.
const SHARES: usize = 8;

/// Who has a share, by [`Lane::index`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shares {
    /// Lanes with files or journals.
    pub waiting: [bool; Lane::COUNT],
    /// Lanes with sensors.
    pub sampling: [bool; Lane::COUNT],
}

/// Who takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taker {
    lane: Lane,
    is_sensor: bool,
}

#[derive(Debug)]
pub(super) struct Window {
    total: usize,
    shares: Shares,
    /// What each has, by [`Taker::index`].
    taken: [usize; 2 * Lane::COUNT],
}

impl Taker {
    pub(super) fn waiting(lane: Lane) -> Self {
        Self {
            lane,
            is_sensor: false,
        }
    }

    pub(super) fn sampling(lane: Lane) -> Self {
        Self {
            lane,
            is_sensor: true,
        }
    }

    fn all() -> impl Iterator<Item = Self> + Clone {
        let lanes = Lane::ALL.into_iter();
        lanes.flat_map(|lane| [Self::sampling(lane), Self::waiting(lane)])
    }

    fn index(self) -> usize {
        self.lane.index() + if self.is_sensor { Lane::COUNT } else { 0 }
    }

    fn gives_way_to(self, other: Self) -> bool {
        other.lane < self.lane || (other.is_sensor && !self.is_sensor)
    }
}

impl Shares {
    fn of(&self, taker: Taker) -> bool {
        let of_its = match taker.is_sensor {
            true => self.sampling,
            false => self.waiting,
        };
        of_its[taker.lane.index()]
    }

    /// How much of a window of `total` bytes each leaves to those it gives way to, and who those are, in words;
    /// nothing where nobody gives way.
    pub fn said(&self, total: usize) -> Option<String> {
        let all = Taker::all().filter(|one| self.of(*one));
        let kept = (all.clone()).filter(|one| all.clone().any(|other| other.gives_way_to(*one)));
        let named: Vec<_> = kept
            .map(|one| {
                let who = if one.is_sensor {
                    "sensors"
                } else {
                    "files and journals"
                };
                let lane = format!("{:?}", one.lane).to_lowercase();
                format!("{who} of lane {lane}")
            })
            .collect();
        let share = Bytes((total / SHARES) as u64);
        let said = format!("{share} for each of: {}", named.join(", "));
        (!named.is_empty()).then_some(said)
    }
}

impl Window {
    pub(super) fn new(total: usize, shares: Shares) -> Self {
        Self {
            total,
            shares,
            taken: [0; 2 * Lane::COUNT],
        }
    }

    pub(super) fn set_shares(&mut self, shares: Shares) {
        self.shares = shares;
    }

    pub(super) fn take(&mut self, taker: Taker, bytes: usize) {
        self.taken[taker.index()] += bytes;
    }

    pub(super) fn give_back(&mut self, taker: Taker, bytes: usize) {
        self.taken[taker.index()] -= bytes;
    }

    fn share(&self, taker: Taker) -> usize {
        match self.shares.of(taker) {
            true => self.total / SHARES,
            false => 0,
        }
    }

    fn first_served(&self, taker: Taker) -> impl Iterator<Item = Taker> {
        Taker::all().filter(move |other| taker.gives_way_to(*other))
    }

    pub(super) fn used(&self) -> usize {
        self.taken.iter().sum()
    }

    /// What somebody gets now of `wish`; none where he is to wait.
    ///
    /// No wish is too large to be met: it is cut to what there is for him. And whoever has nothing begins with
    /// his share, though he wants more than that: the one long line of a lane is not to wait for the others.
    pub(super) fn grant(&self, taker: Taker, wish: usize) -> Option<usize> {
        let shares: usize = self.first_served(taker).map(|one| self.share(one)).sum();
        let left_of_shares: usize = (self.first_served(taker))
            .map(|one| self.share(one).saturating_sub(self.taken[one.index()]))
            .sum();
        let room = (self.total - self.used()).saturating_sub(left_of_shares);
        let wish = wish.min(self.total - shares);
        if wish <= room {
            return Some(wish);
        }
        let share = self.share(taker);
        let begins = self.taken[taker.index()] == 0 && share > 0;
        (begins && share <= room).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_where_somebody_leaves_them() {
        let mut shares = Shares::default();
        shares.waiting[Lane::Normal.index()] = true;
        assert_eq!(shares.said(4 << 20), None);
        shares.sampling[Lane::Normal.index()] = true;
        let of_sensors = "512KiB for each of: sensors of lane normal";
        assert_eq!(shares.said(4 << 20).as_deref(), Some(of_sensors));
        shares.waiting[Lane::High.index()] = true;
        let of_both = "512KiB for each of: files and journals of lane high, sensors of lane normal";
        assert_eq!(shares.said(4 << 20).as_deref(), Some(of_both));
    }
}
