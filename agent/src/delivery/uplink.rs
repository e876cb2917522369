//! When the agent may be connected: always, or in sessions (connect, drain, disconnect), and in the
//! hours that are allowed. Pure.
//!
//! A broker of Amazon MSK takes some thousands of connections that sign with IAM, and about a hundred
//! new ones a second: a large fleet cannot all stay connected, nor come at once. So a session's
//! place in its cycle is drawn from the device's name: the same after every restart, and spread
//! over the fleet. And it ends when what was there at its beginning is delivered, whatever came in
//! meanwhile: a device that writes all the time would never leave.

mod gate;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::gate::{By, Gate};
use super::allowance::Budgets;
use crate::clock::Monotonic;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a session that must end waits for what is in flight.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How long it is open after the last batch that it began for: what came in meanwhile may follow.
const LINGER: Duration = Duration::from_secs(2);

/// A session of a cycle in which the broker acknowledges nothing that it began for, for so long, ends, and the next one
/// comes in its place. After an outage a fleet would otherwise be in session as a whole, and hold the
/// brokers' connections while it waits for more of them. Longer than librdkafka waits for an answer
/// (`socket.timeout.ms`, 60 s), with time to connect again.
const GIVE_UP: Duration = Duration::from_secs(120);

/// How the agent is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Session {
    /// For as long as it runs.
    #[default]
    Always,
    /// From time to time, until everything is sent.
    Cycle,
}

/// Allowed hours of each day, UTC: minutes since midnight, the end not included. Where the end is
/// not behind the beginning, it is of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First minute.
    pub from: u16,
    /// The minute behind the last.
    pub to: u16,
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl std::str::FromStr for Hours {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let ends = text
            .split_once('-')
            .and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let (from, to) = ends.ok_or("two times of day (UTC), as \"22:00-06:00\"")?;
        Ok(Self { from, to })
    }
}

impl Hours {
    fn at_ms(minute: u16) -> u64 {
        u64::from(minute) * 60_000
    }

    /// Whether a moment is allowed, and how long until that changes, milliseconds.
    fn at(self, wall_ms: u64) -> (bool, u64) {
        let now = wall_ms % DAY_MS;
        let until = |minute| (Self::at_ms(minute) + DAY_MS - now - 1) % DAY_MS + 1;
        let (opens, closes) = (until(self.from), until(self.to));
        if self.from == self.to {
            return (true, DAY_MS);
        }
        (closes < opens, opens.min(closes))
    }
}

/// What the uplink goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UplinkSettings {
    /// How the agent is connected.
    pub session: Session,
    /// Time from one session's beginning to the next one's.
    pub every: Duration,
    /// Where in a cycle this device's session begins; from its name.
    pub place: u64,
    /// When it may be connected at all.
    pub hours: Option<Hours>,
    /// How much may pass.
    pub budgets: Budgets,
}

impl UplinkSettings {
    /// Whether a connection may be made before anything is planned.
    pub fn connects_at_start(&self) -> bool {
        self.session == Session::Always && self.hours.is_none() && !self.budgets.is_any()
    }
}

/// Where in a cycle the session of the device of this name begins, for [`UplinkSettings::place`].
pub fn place(name: &[u8]) -> u64 {
    let half = |sum| u64::from(crc32c::crc32c_append(sum, name));
    half(0) << 32 | half(1)
}

/// What there is to do for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// Something waits to be sent.
    pub(super) waiting: bool,
    /// Something is sent and not reported.
    pub(super) in_flight: bool,
    /// Of what was there when the session began something is not acknowledged.
    pub(super) behind: bool,
    /// When something of that was acknowledged last. What came in later does not count: beside a batch that is
    /// refused for ever it would keep the session going for ever.
    pub(super) moved: Option<Monotonic>,
}

/// What is to be done about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Connect,
    Disconnect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        began: Monotonic,
        /// Since when everything is delivered that the session began for.
        idle: Option<Monotonic>,
    },
    /// Nothing more is sent; what is in flight is waited for until then.
    Ending(Monotonic),
}

#[derive(Debug)]
pub(super) struct Uplink {
    settings: UplinkSettings,
    state: State,
    /// The next session begins then, in a cycle: by [`Uplink::in_cycle`].
    begins: Option<Monotonic>,
    /// How long the device was suspended since the start, as far as it was told.
    asleep: Duration,
    /// When the state may change though nothing happens.
    next: Option<Monotonic>,
}

impl Uplink {
    pub(super) fn new(settings: UplinkSettings) -> Self {
        Self {
            state: if settings.connects_at_start() {
                State::Open {
                    began: Monotonic(0),
                    idle: None,
                }
            } else {
                State::Closed
            },
            settings,
            begins: None,
            asleep: Duration::ZERO,
            next: (!settings.connects_at_start()).then_some(Monotonic(0)),
        }
    }

    /// The device was suspended for so long. A cycle goes on meanwhile, and a session whose place was passed
    /// begins at once; what a session waits for could not move, and is not late for it.
    pub(super) fn slept(&mut self, period: Duration) {
        self.asleep = self.asleep.saturating_add(period);
    }

    /// A moment as cycles count: suspensions are a part of them.
    fn in_cycle(&self, now: Monotonic) -> Monotonic {
        now.plus(self.asleep)
    }

    /// Whether anything may be handed to the client.
    pub(super) fn may_send(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether there is a client, or should be.
    pub(super) fn is_connected(&self) -> bool {
        self.state != State::Closed
    }

    /// When to look again though nothing happened.
    pub(super) fn next(&self) -> Option<Monotonic> {
        self.next
    }

    /// Looks at the time and at what there is to do. `closed_for`: the budgets allow nothing for so
    /// long.
    pub(super) fn turn(
        &mut self,
        work: Work,
        closed_for: Option<Duration>,
        now: Monotonic,
        wall_ms: u64,
    ) -> Option<Change> {
        if self.settings.connects_at_start() {
            return None;
        }
        let (allowed, changes_at) = match self.settings.hours {
            None => (true, None),
            Some(hours) => {
                let (allowed, ms) = hours.at(wall_ms);
                (allowed, Some(now.plus(Duration::from_millis(ms))))
            }
        };
        let allowed = allowed && closed_for.is_none();
        let changes_at = (changes_at.into_iter())
            .chain(closed_for.map(|closed| now.plus(closed)))
            .min();
        let due = self.is_due(now);
        let before = self.is_connected();
        self.state = match self.state {
            State::Closed if allowed && due && work.waiting => {
                self.begins = self.next_begin(now);
                State::Open {
                    began: now,
                    idle: None,
                }
            }
            State::Closed => State::Closed,
            State::Open { .. } if !allowed && !work.in_flight => State::Closed,
            State::Open { .. } if !allowed => State::Ending(now.plus(END_PATIENCE)),
            State::Open { began, idle } if self.settings.session == Session::Cycle => {
                go_on(began, idle, work, now)
            }
            open @ State::Open { .. } => open,
            State::Ending(until) if !work.in_flight || until <= now => State::Closed,
            ending @ State::Ending(_) => ending,
        };
        // A session may have lasted beyond the next one's place.
        if self.state == State::Closed && (self.begins.is_none() || self.is_due(now)) {
            self.begins = self.next_begin(now);
        }
        let own = match self.state {
            // As far as it is not suspended until then.
            State::Closed => (self.begins).map(|at| now.plus(at.since(self.in_cycle(now)))),
            State::Open { began, idle } if self.settings.session == Session::Cycle => {
                Some(idle.map_or(moved(began, work).plus(GIVE_UP), |since| since.plus(LINGER)))
            }
            State::Open { .. } => None,
            State::Ending(until) => Some(until),
        };
        self.next = [own, changes_at].into_iter().flatten().min();
        match (before, self.is_connected()) {
            (false, true) => Some(Change::Connect),
            (true, false) => Some(Change::Disconnect),
            _ => None,
        }
    }

    fn is_due(&self, now: Monotonic) -> bool {
        match self.settings.session {
            Session::Always => true,
            Session::Cycle => self.begins.is_some_and(|at| at <= self.in_cycle(now)),
        }
    }

    /// The next place of this device in a cycle, behind `now`, as cycles count.
    fn next_begin(&self, now: Monotonic) -> Option<Monotonic> {
        if self.settings.session == Session::Always {
            return None;
        }
        let every = u64::try_from(self.settings.every.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let now = self.in_cycle(now);
        let place = self.settings.place % every;
        let since = now.0.wrapping_sub(place) % every;
        let passed = if now.0 < place {
            every - (place - now.0) % every
        } else {
            since
        };
        Some(Monotonic(now.0.saturating_add(every - passed % every)))
    }
}

/// What becomes of an open session of a cycle.
fn go_on(began: Monotonic, idle: Option<Monotonic>, work: Work, now: Monotonic) -> State {
    if work.behind {
        return match now.since(moved(began, work)) >= GIVE_UP {
            true => State::Closed,
            false => State::Open { began, idle: None },
        };
    }
    let since = idle.unwrap_or(now);
    match now.since(since) >= LINGER {
        true if work.in_flight => State::Ending(now.plus(END_PATIENCE)),
        true => State::Closed,
        false => State::Open {
            began,
            idle: Some(since),
        },
    }
}

/// When a session moved last.
fn moved(began: Monotonic, work: Work) -> Monotonic {
    work.moved.map_or(began, |at| at.max(began))
}

#[cfg(test)]
mod fleet;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORK: Work = Work {
        waiting: true,
        in_flight: false,
        behind: true,
        moved: None,
    };
    const NONE: Work = Work {
        waiting: false,
        in_flight: false,
        behind: false,
        moved: None,
    };

    fn cycle(place: u64) -> Uplink {
        Uplink::new(UplinkSettings {
            session: Session::Cycle,
            every: Duration::from_secs(60),
            place,
            hours: None,
            budgets: Budgets::default(),
        })
    }

    #[test]
    fn a_session_connects_drains_and_ends() {
        let mut uplink = cycle(7_000);
        assert!(!uplink.may_send());
        assert_eq!(
            uplink.turn(WORK, None, Monotonic(0), 0),
            None,
            "its place is to come"
        );
        assert_eq!(uplink.next(), Some(Monotonic(7_000)));
        assert_eq!(
            uplink.turn(WORK, None, Monotonic(7_000), 0),
            Some(Change::Connect)
        );
        let flying = Work {
            in_flight: true,
            behind: true,
            ..NONE
        };
        assert_eq!(uplink.turn(flying, None, Monotonic(30_000), 0), None);
        assert_eq!(
            uplink.turn(NONE, None, Monotonic(30_500), 0),
            None,
            "it lingers"
        );
        assert_eq!(uplink.next(), Some(Monotonic(32_500)));
        assert_eq!(
            uplink.turn(NONE, None, Monotonic(32_500), 0),
            Some(Change::Disconnect)
        );
        assert_eq!(
            uplink.turn(WORK, None, Monotonic(33_000), 0),
            None,
            "until the next"
        );
        assert_eq!(uplink.next(), Some(Monotonic(67_000)));
        // With nothing to send there is no session.
        assert_eq!(uplink.turn(NONE, None, Monotonic(67_000), 0), None);
        assert_eq!(uplink.next(), Some(Monotonic(127_000)));
    }

    #[test]
    fn a_session_ends_though_more_comes_in_all_the_time() {
        let mut uplink = cycle(7_000);
        uplink.turn(WORK, None, Monotonic(0), 0);
        uplink.turn(WORK, None, Monotonic(7_000), 0);
        // All that it began for is delivered; later lines are on their way and wait.
        let later = Work {
            in_flight: true,
            behind: false,
            ..WORK
        };
        assert_eq!(uplink.turn(later, None, Monotonic(8_000), 0), None);
        assert_eq!(uplink.turn(later, None, Monotonic(10_000), 0), None);
        assert!(!uplink.may_send(), "what is on its way is waited for");
        let left = Work {
            behind: false,
            ..WORK
        };
        assert_eq!(
            uplink.turn(left, None, Monotonic(10_200), 0),
            Some(Change::Disconnect)
        );
        assert_eq!(uplink.next(), Some(Monotonic(67_000)));
    }

    #[test]
    fn a_session_without_an_answer_gives_up_and_comes_again_in_its_place() {
        let mut uplink = cycle(7_000);
        uplink.turn(WORK, None, Monotonic(0), 0);
        uplink.turn(WORK, None, Monotonic(7_000), 0);
        assert_eq!(uplink.turn(WORK, None, Monotonic(126_999), 0), None);
        assert_eq!(uplink.next(), Some(Monotonic(127_000)));
        // An answer: the link is slow, and not dead.
        let moving = Work {
            moved: Some(Monotonic(126_000)),
            ..WORK
        };
        assert_eq!(uplink.turn(moving, None, Monotonic(127_000), 0), None);
        assert_eq!(uplink.next(), Some(Monotonic(246_000)));
        assert_eq!(
            uplink.turn(moving, None, Monotonic(246_000), 0),
            Some(Change::Disconnect)
        );
        assert_eq!(uplink.next(), Some(Monotonic(247_000)));
        assert_eq!(
            uplink.turn(moving, None, Monotonic(247_000), 0),
            Some(Change::Connect)
        );
    }

    #[test]
    fn a_cycle_goes_on_while_the_device_is_suspended() {
        let mut uplink = cycle(7_000);
        uplink.turn(WORK, None, Monotonic(0), 0);
        // A part of the wait is slept through, and then all of the rest.
        uplink.slept(Duration::from_secs(4));
        assert_eq!(uplink.turn(WORK, None, Monotonic(1_000), 0), None);
        assert_eq!(uplink.next(), Some(Monotonic(3_000)));
        let gate = uplink.gate(None, Monotonic(1_000), 0);
        assert_eq!(
            (gate.by, gate.changes_in_ms),
            (Some(By::Cycle), Some(2_000))
        );
        uplink.slept(Duration::from_secs(200));
        assert_eq!(
            uplink.turn(WORK, None, Monotonic(1_000), 0),
            Some(Change::Connect)
        );
        // A session is not given up for a sleep in the middle of it, nor does it linger less.
        uplink.slept(Duration::from_secs(500));
        assert_eq!(uplink.turn(WORK, None, Monotonic(2_000), 0), None);
        assert_eq!(uplink.turn(NONE, None, Monotonic(3_000), 0), None);
        uplink.slept(Duration::from_secs(5));
        assert_eq!(uplink.turn(NONE, None, Monotonic(4_900), 0), None);
        assert_eq!(
            uplink.turn(NONE, None, Monotonic(5_000), 0),
            Some(Change::Disconnect)
        );
        // 714 s of the cycle have passed; its places are at 7 s and every minute behind.
        assert_eq!(uplink.next(), Some(Monotonic(5_000 + 13_000)));
    }

    #[test]
    fn hours_open_and_close_across_midnight() {
        let night = Hours {
            from: 22 * 60,
            to: 6 * 60,
        };
        let at = |minute: u64| night.at(20_000 * DAY_MS + minute * 60_000);
        assert_eq!(at(22 * 60), (true, 8 * 3_600_000));
        assert_eq!(at(0), (true, 6 * 3_600_000));
        assert_eq!(at(6 * 60), (false, 16 * 3_600_000));
        assert_eq!(at(21 * 60 + 59), (false, 60_000));
        let settings = UplinkSettings {
            hours: Some(night),
            ..UplinkSettings::default()
        };
        let mut uplink = Uplink::new(settings);
        let noon = 12 * 3_600_000;
        assert_eq!(uplink.turn(WORK, None, Monotonic(0), noon), None);
        let evening = Monotonic(10 * 3_600_000);
        assert_eq!(uplink.next(), Some(evening));
        assert_eq!(
            uplink.turn(WORK, None, evening, noon + evening.0),
            Some(Change::Connect)
        );
        // At the end, what is in flight is waited for, and then no longer.
        let flying = Work {
            in_flight: true,
            ..WORK
        };
        let morning = Monotonic(18 * 3_600_000);
        assert_eq!(uplink.turn(flying, None, morning, noon + morning.0), None);
        assert!(!uplink.may_send());
        let later = morning.plus(END_PATIENCE);
        assert_eq!(
            uplink.turn(flying, None, later, noon + later.0),
            Some(Change::Disconnect)
        );
    }

    proptest! {
        #[test]
        fn the_next_session_is_within_a_cycle_and_in_its_place(now in 0_u64..1 << 40, place: u64, every in 1_u64..1 << 30) {
            let uplink = Uplink::new(UplinkSettings {
                session: Session::Cycle,
                every: Duration::from_millis(every),
                place,
                hours: None,
                budgets: Budgets::default(),
            });
            let next = uplink.next_begin(Monotonic(now)).unwrap().0;
            prop_assert!(next > now && next <= now + every, "{} {}", now, next);
            prop_assert_eq!(next % every, place % every);
        }

        #[test]
        fn every_device_has_its_own_place(places in prop::collection::vec(any::<u64>(), 200)) {
            let mut begins: Vec<_> = places.iter().map(|place| cycle(*place).next_begin(Monotonic(0)).unwrap().0 / 6000).collect();
            begins.sort_unstable();
            begins.dedup();
            prop_assert!(begins.len() >= 9, "not spread over the cycle: {:?}", begins);
        }
    }
}
