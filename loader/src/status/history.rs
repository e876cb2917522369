//! The last hour of each partition, in points of half a minute: enough for a small plot, and a
//! kilobyte or two a partition. Pure: whoever keeps the time hands the samples in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::metrics::Lag;

/// Time between two points.
pub const EVERY: Duration = Duration::from_secs(30);
/// Points that are kept: an hour of them.
pub const POINTS: usize = 120;

/// A partition at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Everything below was taken in.
    pub taken: u64,
    /// Its lag; none before the client has heard where it ends.
    pub lag: Option<Lag>,
}

/// What happened between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Point {
    /// Offsets taken in.
    pub records: u64,
    /// Durable lag at its end, seconds.
    pub lag_seconds: u64,
}

/// The points of every partition that is ours.
#[derive(Debug, Default)]
pub struct History(BTreeMap<i32, Line>);

#[derive(Debug)]
struct Line {
    taken: u64,
    points: VecDeque<Point>,
}

impl History {
    /// Enters a sample of every partition that is ours now. What is no longer ours is forgotten: its
    /// new owner has it.
    pub fn sample(&mut self, samples: &BTreeMap<i32, Sample>) {
        self.0
            .retain(|partition, _| samples.contains_key(partition));
        for (partition, sample) in samples {
            let line = self.0.entry(*partition).or_insert_with(|| Line {
                taken: sample.taken,
                points: VecDeque::new(),
            });
            if line.points.len() == POINTS {
                line.points.pop_front();
            }
            line.points.push_back(Point {
                // It goes back where a membership was given up and what was open is read again.
                records: sample.taken.saturating_sub(line.taken),
                lag_seconds: sample.lag.map_or(0, |lag| lag.seconds),
            });
            line.taken = sample.taken;
        }
    }

    /// A partition's points, the oldest first.
    pub fn of(&self, partition: i32) -> impl Iterator<Item = Point> + '_ {
        let line = self.0.get(&partition);
        line.into_iter()
            .flat_map(|line| line.points.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(taken: u64, seconds: u64) -> Sample {
        let lag = Some(Lag {
            records: 1,
            seconds,
        });
        Sample { taken, lag }
    }

    #[test]
    fn an_hour_is_kept_and_what_goes_back_is_no_throughput() {
        let mut history = History::default();
        for n in 0..500 {
            history.sample(&BTreeMap::from([(0, at(1000 + 10 * n, n))]));
        }
        let points: Vec<Point> = history.of(0).collect();
        assert_eq!(points.len(), POINTS);
        assert!(points.iter().all(|point| point.records == 10));
        assert_eq!(points.last().unwrap().lag_seconds, 499);
        history.sample(&BTreeMap::from([(0, at(5, 0)), (1, at(7_000_000, 0))]));
        assert_eq!(history.of(0).last().unwrap().records, 0);
        // The first sample of a partition has nothing to be measured against.
        assert_eq!(history.of(1).next().unwrap().records, 0);
        history.sample(&BTreeMap::from([(1, at(7_000_004, 0))]));
        assert_eq!(history.of(0).count(), 0, "it is somebody else's now");
        assert_eq!(history.of(1).last().unwrap().records, 4);
    }
}
