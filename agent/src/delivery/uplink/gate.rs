//! Whether the uplink is open, and what opens or closes it next: for people and for metrics. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Session, State, Uplink};
use crate::clock::Monotonic;

/// What keeps the uplink closed, or will close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// `uplink.hours`
    Hours,
    /// One of `uplink.bytes_per_…`
    Budget,
    /// `uplink.session = "cycle"`
    Cycle,
    /// It is unset.
    Clock,
}

impl By {
    /// The setting, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hours => "uplink.hours",
            Self::Budget => "the uplink's budgets",
            Self::Cycle => "uplink.session = \"cycle\"",
            Self::Clock => "the clock, which is unset",
        }
    }
}

/// How it stands with the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What waits may be sent.
    pub open: bool,
    /// What closes it; where it is open, what will, as far as that is known.
    pub by: Option<By>,
    /// In so many milliseconds that changes: of several that keep it closed, the one that lasts longest.
    pub changes_in_ms: Option<u64>,
    /// Something restricts it at all.
    pub limited: bool,
}

impl Default for Gate {
    /// Always open.
    fn default() -> Self {
        Self {
            open: true,
            by: None,
            changes_in_ms: None,
            limited: false,
        }
    }
}

impl Uplink {
    /// As of now. `closed_for`: the budgets allow nothing for so long.
    pub(in crate::delivery) fn gate(
        &self,
        closed_for: Option<Duration>,
        now: Monotonic,
        wall_ms: u64,
    ) -> Gate {
        if self.settings.connects_at_start() {
            return Gate::default();
        }
        let ms = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (in_hours, turns_ms) = match self.settings.hours {
            Some(hours) => hours.at(wall_ms),
            None => (true, u64::MAX),
        };
        let in_session = matches!(self.state, State::Open { .. });
        let next_session = (self.settings.session == Session::Cycle && !in_session)
            .then(|| self.begins.map_or(0, |at| ms(at.since(self.in_cycle(now)))))
            .filter(|wait| *wait > 0);
        let closed = [
            (!in_hours).then_some((By::Hours, turns_ms)),
            closed_for.map(|wait| (By::Budget, ms(wait))),
            next_session.map(|wait| (By::Cycle, wait)),
        ];
        let lasts_longest = closed.into_iter().flatten().max_by_key(|(_, wait)| *wait);
        let closes = self.settings.hours.map(|_| (By::Hours, turns_ms));
        let next = lasts_longest.or(closes);
        Gate {
            open: lasts_longest.is_none(),
            by: next.map(|(by, _)| by),
            changes_in_ms: next.map(|(_, wait)| wait),
            limited: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{UplinkSettings, Work};
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn told(
        uplink: &Uplink,
        closed_for: Option<u64>,
        hour: u64,
    ) -> (bool, Option<By>, Option<u64>) {
        let now = Monotonic(hour * HOUR_MS);
        let gate = uplink.gate(closed_for.map(Duration::from_millis), now, now.0);
        (gate.open, gate.by, gate.changes_in_ms)
    }

    #[test]
    fn it_says_what_closes_it_and_until_when() {
        let always = Uplink::new(UplinkSettings::default());
        assert_eq!(told(&always, None, 5), (true, None, None));
        let at_night = UplinkSettings {
            hours: Some("22:00-06:00".parse().unwrap()),
            ..UplinkSettings::default()
        };
        let hours = Uplink::new(at_night);
        let by_hours = |open, hours| (open, Some(By::Hours), Some(hours * HOUR_MS));
        assert_eq!(told(&hours, None, 5), by_hours(true, 1));
        assert_eq!(told(&hours, None, 7), by_hours(false, 15));
        assert_eq!(
            told(&hours, Some(20 * HOUR_MS), 7),
            (false, Some(By::Budget), Some(20 * HOUR_MS)),
            "it lasts longer"
        );
        assert_eq!(told(&hours, Some(HOUR_MS), 7), by_hours(false, 15));
        assert_eq!(
            told(&hours, Some(HOUR_MS), 5),
            (false, Some(By::Budget), Some(HOUR_MS))
        );
    }

    #[test]
    fn between_two_sessions_of_a_cycle_it_is_closed() {
        let cycle = UplinkSettings {
            session: Session::Cycle,
            every: Duration::from_millis(2 * HOUR_MS),
            ..UplinkSettings::default()
        };
        let mut uplink = Uplink::new(cycle);
        let work = Work {
            waiting: true,
            in_flight: false,
            behind: true,
            moved: None,
        };
        let at = |hour: u64| (Monotonic(hour * HOUR_MS), hour * HOUR_MS);
        let (now, wall_ms) = at(1);
        uplink.turn(work, None, now, wall_ms);
        assert_eq!(
            told(&uplink, None, 1),
            (false, Some(By::Cycle), Some(HOUR_MS))
        );
        let (now, wall_ms) = at(2);
        uplink.turn(work, None, now, wall_ms);
        assert_eq!(told(&uplink, None, 2), (true, None, None));
    }
}
