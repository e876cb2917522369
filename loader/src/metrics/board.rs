//! Who loads which partition, how far each is, and what keeps it.

use std::collections::BTreeMap;
use std::ops::Range;

/// Partitions that are named where a loader is not ready.
const NAMED: usize = 10;

/// What is known of each partition that is ours.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) workers: BTreeMap<i32, Post>,
    pub(super) ends: BTreeMap<i32, Ends>,
    pub(super) joined: bool,
    /// Up to where lost offsets were counted.
    lost: BTreeMap<i32, u64>,
    /// How many they were, over all partitions.
    pub(super) lost_sum: u64,
}

/// Why a worker cannot load.
#[derive(Debug)]
pub(super) struct Waits {
    /// The newest reason.
    pub(super) reason: String,
    /// Since when there is one, monotonic milliseconds.
    pub(super) since_ms: u64,
}

/// A worker's line.
#[derive(Debug)]
pub(super) struct Post {
    /// Of its assignment.
    pub(super) epoch: u64,
    pub(super) standing: Standing,
    /// Why it cannot load now; none where it does.
    pub(super) waits: Option<Waits>,
    /// Where its partition ends, as it was told: while nothing is fetched the client hears nothing of that.
    pub(super) end: Option<u64>,
    /// When it last looked up, monotonic milliseconds; none before it loads, and when it ends.
    pub(super) looked_ms: Option<u64>,
}

impl Board {
    /// A worker's line; none where another has taken its partition up since.
    pub(super) fn of(&mut self, (partition, epoch): (i32, u64)) -> Option<&mut Post> {
        let post = self.workers.get_mut(&partition)?;
        (post.epoch == epoch).then_some(post)
    }

    /// The partitions that are ours.
    pub(super) fn readings(&self, now_ms: u64) -> Vec<Reading> {
        let reading = |(partition, post): (&i32, &Post)| {
            let heard = self.ends.get(partition).copied();
            let told = post.end.filter(|_| post.waits.is_some());
            let ends = match (heard, told) {
                (Some(heard), told) => Some(Ends {
                    end: heard.end.max(told.unwrap_or(0)),
                    ..heard
                }),
                (None, told) => told.map(|end| Ends {
                    end,
                    ..Ends::default()
                }),
            };
            Reading {
                partition: *partition,
                standing: post.standing,
                end: ends.map(|ends| ends.end),
                lag: ends.map(|ends| lag(&post.standing, &ends, now_ms)),
                waits: post.waits.as_ref().map(|waits| waits.reason.clone()),
            }
        };
        self.workers.iter().map(reading).collect()
    }

    /// Why not everything that is ours is loaded; none where it is.
    pub(super) fn not_ready(&self) -> Option<String> {
        if !self.joined {
            return Some("not in the group yet\n".to_owned());
        }
        let waits = |(partition, post): (&i32, &Post)| {
            let reason = &post.waits.as_ref()?.reason;
            Some(format!("partition {partition} is not loaded: {reason}\n"))
        };
        let lines: Vec<String> = self.workers.iter().filter_map(waits).collect();
        let beyond = lines.len().saturating_sub(NAMED);
        let mut text: String = lines.iter().take(NAMED).map(String::as_str).collect();
        if beyond > 0 {
            text += &format!("and {beyond} more\n");
        }
        (!text.is_empty()).then_some(text)
    }

    /// A partition whose worker looked up once, and has not for longer than `most_ms`, and for how long. It looks
    /// up twice a second, whatever it waits for: one that does not is held up by something that never ends.
    pub(super) fn hung(&self, now_ms: u64, most_ms: u64) -> Option<(i32, u64)> {
        let silent = |(partition, post): (&i32, &Post)| {
            let silent_ms = now_ms.saturating_sub(post.looked_ms?);
            (silent_ms > most_ms).then_some((*partition, silent_ms))
        };
        self.workers.iter().find_map(silent)
    }

    /// Whether all that a partition holds was taken. Not as long as nothing was heard of where it ends.
    pub(super) fn is_all_taken(&self, partition: i32) -> bool {
        self.ends.get(&partition).is_some_and(Ends::is_all_taken)
    }

    /// How many of these were not counted yet.
    pub(super) fn lost(&mut self, partition: i32, offsets: Range<u64>) -> u64 {
        let counted = self.lost.entry(partition).or_default();
        let from = offsets.start.max(*counted);
        *counted = offsets.end.max(*counted);
        let lost = offsets.end.saturating_sub(from);
        self.lost_sum += lost;
        lost
    }
}

/// How far a partition's worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything below is stored.
    pub durable: u64,
    /// Everything below was taken in.
    pub taken: u64,
    /// Kafka's timestamp of the first record that was taken in and is not durable, Unix
    /// milliseconds.
    pub oldest_ms: Option<u64>,
    /// Kafka's timestamp of the last durable record.
    pub durable_ms: Option<u64>,
    /// Ranges that nothing explains, as of the last batch.
    pub gaps: u64,
    /// Streams in the ledger, as of the last batch.
    pub streams: u64,
    /// Memory that the ledger takes, about, bytes, as of the last batch.
    pub ledger_bytes: u64,
    /// Windows that are open.
    pub windows: u64,
    /// Memory that they take, about, bytes.
    pub window_bytes: u64,
    /// Up to when hours are said to be complete, Unix milliseconds; none without markers.
    pub complete_ms: Option<u64>,
    /// Devices that have an account of the day.
    pub accounts: u64,
}

/// Where a partition ends, as the client last heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// First offset behind what may be read (the last stable offset).
    pub end: u64,
    /// The end that the client has read up to, markers of transactions included.
    pub reached: Option<u64>,
    /// Records that the client holds, and nobody has taken.
    pub waiting: u64,
    /// Whether the broker that it fetches from is heard, and the group's coordinator is known.
    pub is_near: bool,
}

impl Ends {
    /// Whether all that there is was taken, as far as the client has heard, and goes on to hear.
    fn is_all_taken(&self) -> bool {
        self.is_near && self.waiting == 0 && self.reached.is_some_and(|at| at >= self.end)
    }
}

/// A partition's durable lag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Offsets between what is durable and the partition's end.
    pub records: u64,
    /// Age of the oldest record that is not durable, seconds.
    pub seconds: u64,
}

/// A partition that is ours, as everybody who watches sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its number.
    pub partition: i32,
    /// How far it is.
    pub standing: Standing,
    /// First offset behind what may be read; none before the client has heard.
    pub end: Option<u64>,
    /// Its durable lag; none before the client has heard where it ends.
    pub lag: Option<Lag>,
    /// Why it cannot be loaded now; none where it is.
    pub waits: Option<String>,
}

/// The durable lag of a partition. `now_ms`: Unix time.
pub fn lag(standing: &Standing, ends: &Ends, now_ms: u64) -> Lag {
    let all_taken_is_durable = standing.durable >= standing.taken;
    let nothing_left = all_taken_is_durable && ends.reached.is_some_and(|at| at >= ends.end);
    let records = ends.end.saturating_sub(standing.durable);
    if nothing_left || records == 0 {
        return Lag::default();
    }
    // Where nothing of what is left was seen yet, the last durable record is the nearest bound.
    let since = standing.oldest_ms.or(standing.durable_ms);
    Lag {
        records,
        seconds: since.map_or(0, |since| now_ms.saturating_sub(since) / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_of_what_is_left() {
        let standing = |durable, taken| Standing {
            durable,
            taken,
            oldest_ms: (taken > durable).then_some(90_000),
            durable_ms: Some(40_000),
            ..Standing::default()
        };
        let ends = |end, reached| Ends {
            end,
            reached,
            waiting: 0,
            is_near: true,
        };
        for (name, standing, ends, records, seconds) in [
            ("idle", standing(70, 70), ends(70, Some(70)), 0, 0),
            // Markers of transactions: offsets without records.
            (
                "idle behind markers",
                standing(70, 70),
                ends(72, Some(72)),
                0,
                0,
            ),
            (
                "a batch is open",
                standing(70, 80),
                ends(80, Some(80)),
                10,
                10,
            ),
            (
                "not fetched yet",
                standing(70, 70),
                ends(95, Some(70)),
                25,
                60,
            ),
            (
                "not heard of the end",
                standing(70, 70),
                ends(0, None),
                0,
                0,
            ),
        ] {
            let expected = Lag { records, seconds };
            assert_eq!(lag(&standing, &ends, 100_000), expected, "{name}");
        }
    }

    #[test]
    fn a_worker_hangs_that_looked_up_once_and_does_not_any_more() {
        let mut board = Board::default();
        let post = |looked_ms| Post {
            epoch: 1,
            standing: Standing::default(),
            waits: None,
            end: None,
            looked_ms,
        };
        board.workers.insert(1, post(None));
        board.workers.insert(2, post(Some(9_000)));
        assert_eq!(board.hung(69_000, 60_000), None);
        assert_eq!(board.hung(69_001, 60_000), Some((2, 60_001)));
        board.of((2, 1)).unwrap().looked_ms = None;
        assert_eq!(board.hung(69_001, 60_000), None);
    }

    #[test]
    fn one_that_waits_has_a_lag_and_a_reason_and_an_old_worker_changes_neither() {
        let mut board = Board {
            joined: true,
            ..Board::default()
        };
        let standing = Standing {
            durable: 10,
            taken: 10,
            oldest_ms: Some(40_000),
            ..Standing::default()
        };
        let post = |epoch, waits: Option<&str>| Post {
            epoch,
            standing,
            waits: waits.map(|reason| Waits {
                reason: reason.to_owned(),
                since_ms: 0,
            }),
            end: Some(25),
            looked_ms: None,
        };
        board.workers.insert(1, post(7, Some("no state")));
        board.workers.insert(2, post(8, None));
        let lag = Lag {
            records: 15,
            seconds: 60,
        };
        let readings = board.readings(100_000);
        assert_eq!(readings[0].lag, Some(lag));
        let waits = |at: usize| readings[at].waits.as_deref();
        assert_eq!((waits(0), waits(1)), (Some("no state"), None));
        // What the client heard when it last fetched is older than what the worker asked.
        let reached = Some(12);
        let waiting = 0;
        board.ends.insert(
            1,
            Ends {
                end: 12,
                reached,
                waiting,
                is_near: true,
            },
        );
        assert_eq!(board.readings(100_000)[0].lag, Some(lag));
        assert!(board.of((1, 6)).is_none());
        let said = board.not_ready();
        assert_eq!(
            said.as_deref(),
            Some("partition 1 is not loaded: no state\n")
        );
        board.of((1, 7)).unwrap().waits = None;
        assert_eq!(board.not_ready(), None);
        board.joined = false;
        assert_eq!(board.not_ready().as_deref(), Some("not in the group yet\n"));
        board.joined = true;
        let many = (0..30).map(|partition| (partition, post(1, Some("x"))));
        board.workers = many.collect();
        assert_eq!(board.not_ready().unwrap().lines().count(), NAMED + 1);
    }

    /// Windows of a partition must not be closed as quiet while its records wait.
    #[test]
    fn all_is_taken_where_nothing_waits_and_the_end_was_heard_of() {
        let mut board = Board::default();
        assert!(!board.is_all_taken(1), "nothing was heard");
        for (end, reached, waiting, is_near, is_all_taken) in [
            (9, None, 0, true, false),
            (9, Some(8), 0, true, false),
            (9, Some(9), 3, true, false),
            (9, Some(9), 0, true, true),
            (0, Some(0), 0, true, true),
            // Nobody hears what comes meanwhile, nor could it be committed that a window is closed.
            (9, Some(9), 0, false, false),
        ] {
            let ends = Ends {
                end,
                reached,
                waiting,
                is_near,
            };
            board.ends.insert(1, ends);
            assert_eq!(board.is_all_taken(1), is_all_taken, "{ends:?}");
            assert!(!board.is_all_taken(2));
        }
    }
}
