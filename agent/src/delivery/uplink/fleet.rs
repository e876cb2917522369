//! 20,000 devices in session mode `cycle` against the limits of an MSK cluster: how many connections
//! a broker accepts a second, and holds. The schedule is the real one, with each device's place drawn
//! from its name; the rest of the world is the plainest that is not kinder than the real one:
//!
//! - A session makes [`CONNECTIONS`] connections, one after the other, round the brokers, and holds
//!   all of them to its end.
//! - A broker refuses what is above its limits. A refused connection comes again as librdkafka's do:
//!   after 1 s, 2 s, 4 s … 30 s, less 25 % to more 50 % by chance.
//! - Every device always has something to send, and more comes in while it sends.
//!
//! `cargo test -p headwater-agent --lib fleet -- --nocapture --test-threads 1` prints the figures of `docs/msk.md`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;

const DEVICES: usize = 20_000;
const BROKERS: usize = 3;
/// New IAM connections a second that a broker accepts: M5, M7g, Express; and t3.
const RATE: u32 = 100;
const RATE_T3: u32 = 4;
/// IAM connections that a broker holds.
const HELD_MAX: u32 = 3000;
/// As counted for one session of an agent on three brokers (`headwater-fleet cycle`).
const CONNECTIONS: u32 = 5;
/// From the last connection to the acknowledgement of a cycle's records; and of each hour of backlog.
const DRAIN_MS: u64 = 1000;
const DRAIN_MS_PER_HOUR: u64 = 2000;
/// Name, TLS, SASL.
const CONNECT_MS: u64 = 300;

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

struct Device {
    uplink: Uplink,
    connections: u32,
    failures: u32,
    random: u64,
    /// Everything that was read before is delivered.
    delivered_ms: u64,
    /// The drain ends then.
    drained_ms: Option<u64>,
    in_session: bool,
}

#[derive(Default)]
struct Broker {
    second: u64,
    accepted: u32,
    held: u32,
}

#[derive(Default)]
struct Seen {
    /// Connections made, and refused.
    made: u64,
    refused: u64,
    /// The most that a broker held.
    held_most: u32,
    /// Attempts by second and broker, and the most of them.
    attempts: BTreeMap<(u64, usize), u32>,
    attempts_most: u32,
    sessions: u64,
}

struct Fleet {
    devices: Vec<Device>,
    brokers: [Broker; BROKERS],
    rate: u32,
    /// All brokers are away.
    outage: std::ops::Range<u64>,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    seen: Seen,
}

fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Fleet {
    fn new(every: Duration, rate: u32, outage: std::ops::Range<u64>) -> Self {
        let device = |n: usize| {
            let place = place(format!("device-{n}").as_bytes());
            Device {
                uplink: Uplink::new(UplinkSettings {
                    session: Session::Cycle,
                    every,
                    place,
                    hours: None,
                    budgets: Budgets::default(),
                }),
                connections: 0,
                failures: 0,
                random: place,
                delivered_ms: 0,
                drained_ms: None,
                in_session: false,
            }
        };
        Self {
            devices: (0..DEVICES).map(device).collect(),
            brokers: Default::default(),
            rate,
            outage,
            events: (0..DEVICES).map(|n| Reverse((0, n))).collect(),
            seen: Seen::default(),
        }
    }

    /// Lets time pass until `until`; returns what was seen from `from` on.
    fn run(&mut self, from: u64, until: u64) -> Seen {
        while let Some(Reverse((now, _))) = self.events.peek() {
            if *now >= until {
                break;
            }
            let Some(Reverse((now, n))) = self.events.pop() else {
                break;
            };
            if now < from {
                self.seen = Seen::default();
            }
            if let Some(next) = self.step(n, now) {
                self.events.push(Reverse((next.max(now + 1), n)));
            }
        }
        let mut seen = std::mem::take(&mut self.seen);
        seen.attempts_most = seen.attempts.values().copied().max().unwrap_or(0);
        seen
    }

    /// One device's turn; returns when its next one is.
    fn step(&mut self, n: usize, now: u64) -> Option<u64> {
        let device = &mut self.devices[n];
        if device.drained_ms.is_some_and(|at| at <= now) {
            device.drained_ms = None;
            device.delivered_ms = now;
        }
        let is_connected = device.connections == CONNECTIONS;
        let behind = !is_connected || device.drained_ms.is_some();
        let work = Work {
            waiting: true,
            in_flight: false,
            behind,
            moved: None,
        };
        match device.uplink.turn(work, None, Monotonic(now), now) {
            Some(Change::Connect) => {
                device.in_session = true;
                device.failures = 0;
                self.seen.sessions += 1;
            }
            Some(Change::Disconnect) => {
                device.in_session = false;
                for k in 0..std::mem::take(&mut device.connections) {
                    self.brokers[(n + k as usize) % BROKERS].held -= 1;
                }
            }
            None => {}
        }
        if !device.in_session {
            return device.uplink.next().map(|at| at.0);
        }
        let gives_up = device.uplink.next().map_or(u64::MAX, |at| at.0);
        if device.connections < CONNECTIONS {
            return Some(self.connect(n, now).min(gives_up));
        }
        device.drained_ms.or(device.uplink.next().map(|at| at.0))
    }

    /// One attempt at a device's next connection; returns when to go on.
    fn connect(&mut self, n: usize, now: u64) -> u64 {
        let device = &mut self.devices[n];
        let at = (n + device.connections as usize) % BROKERS;
        let broker = &mut self.brokers[at];
        let second = now / SECOND;
        if broker.second != second {
            (broker.second, broker.accepted) = (second, 0);
        }
        let is_there = !self.outage.contains(&now);
        if is_there {
            *self.seen.attempts.entry((second, at)).or_default() += 1;
        }
        if is_there && broker.accepted < self.rate && broker.held < HELD_MAX {
            broker.accepted += 1;
            broker.held += 1;
            self.seen.held_most = self.seen.held_most.max(broker.held);
            self.seen.made += 1;
            device.connections += 1;
            device.failures = 0;
            if device.connections == CONNECTIONS {
                let backlog = now.saturating_sub(device.delivered_ms);
                device.drained_ms = Some(now + DRAIN_MS + DRAIN_MS_PER_HOUR * backlog / HOUR);
            }
            return now + CONNECT_MS;
        }
        if is_there {
            self.seen.refused += 1;
        }
        let wait = (SECOND << device.failures.min(5)).min(30 * SECOND);
        device.failures += 1;
        now + wait * (75 + next_random(&mut device.random) % 76) / 100
    }
}

/// A cluster's brokers in a steady fleet, from the second cycle to the fourth.
fn steady(every: Duration, rate: u32) -> Seen {
    let cycle = millis(every);
    let seen = Fleet::new(every, rate, 0..0).run(cycle, 4 * cycle);
    seen.tell(&format!("every {every:?}, {rate}/s a broker, steady"));
    seen
}

/// The same after all brokers were away: how long until every device has delivered what it had when
/// they came back, and what was seen meanwhile.
fn after_outage(every: Duration, rate: u32, away: Duration) -> (Duration, Seen) {
    let back = 2 * millis(every) + millis(away);
    let mut fleet = Fleet::new(every, rate, back - millis(away)..back);
    fleet.run(0, back);
    let mut now = back;
    let mut seen = Seen::default();
    while fleet
        .devices
        .iter()
        .any(|device| device.delivered_ms < back)
    {
        now += 10 * SECOND;
        assert!(now < back + 24 * HOUR, "some never get through");
        seen.add(fleet.run(back, now));
    }
    let took = Duration::from_millis(now - back);
    seen.tell(&format!(
        "every {every:?}, {rate}/s a broker, after {away:?} without brokers: all within {took:?}"
    ));
    (took, seen)
}

fn millis(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap()
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.made += other.made;
        self.refused += other.refused;
        self.sessions += other.sessions;
        self.held_most = self.held_most.max(other.held_most);
        self.attempts_most = self.attempts_most.max(other.attempts_most);
    }

    fn tell(&self, what: &str) {
        println!(
            "{what}: {} sessions; connections: {} made, {} refused, at most {} tried in a second \
             on one broker, at most {} held by one",
            self.sessions, self.made, self.refused, self.attempts_most, self.held_most
        );
    }
}

const QUARTER: Duration = Duration::from_secs(900);
const THREE_HOURS: Duration = Duration::from_secs(3 * 3600);

#[test]
fn a_cycle_of_a_quarter_of_an_hour_is_refused_nothing() {
    let seen = steady(QUARTER, RATE);
    assert_eq!(seen.refused, 0);
    assert!(
        seen.attempts_most <= RATE * 7 / 10,
        "{}",
        seen.attempts_most
    );
    assert!(seen.held_most <= HELD_MAX / 10, "{}", seen.held_most);
    assert!(
        seen.sessions >= 3 * DEVICES as u64 - 100,
        "{}",
        seen.sessions
    );
}

#[test]
fn after_an_outage_all_have_delivered_within_a_cycle() {
    let (took, seen) = after_outage(QUARTER, RATE, Duration::from_secs(2 * 3600));
    assert!(took <= QUARTER + GIVE_UP, "{took:?}");
    assert!(seen.held_most < HELD_MAX, "{}", seen.held_most);
}

#[test]
fn the_limits_are_real_and_small_brokers_need_a_longer_cycle() {
    // 20,000 sessions of five connections in 300 s are 111 a second and broker.
    assert!(steady(Duration::from_secs(300), RATE).refused > 100_000);
    let sessions = 3 * DEVICES as u64;
    let seen = steady(THREE_HOURS, RATE_T3);
    assert!(
        seen.made >= sessions * u64::from(CONNECTIONS) - 1000,
        "{}",
        seen.made
    );
    let (took, _) = after_outage(THREE_HOURS, RATE_T3, Duration::from_secs(2 * 3600));
    assert!(took <= THREE_HOURS + Duration::from_secs(600), "{took:?}");
}
