//! Which samples are told, and which are told as one. Pure: the moment is handed in.
//!
//! ```text
//!   deadband 1    20.0  20.4  20.9  21.3        told: 20.0, 21.3, and the last one known at each
//!   heartbeat                                   heartbeat
//!
//!   roll-up       20.0  20.4  20.9  21.3        told: min 20.0, max 21.3, mean 20.65, count 4,
//!                 └──────── window ───────┘     last 21.3
//! ```
//!
//! A change of quality is always told. A sensor that stays without a value is told again only at the
//! heartbeat: what is unplugged would otherwise fill the line. A roll-up with `offline` takes over
//! while the broker does not acknowledge: a long outage then costs resolution, not coverage.
//!
//! What is not told lies in the span of the next record: it was dropped by configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reading::{Quality, Reading};
use crate::clock::Monotonic;

/// By how much a value must move to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deadband {
    /// By so much, in its unit.
    Absolute(f64),
    /// By so many percent of the value told last.
    Percent(f64),
}

impl Deadband {
    /// Whether the step from one value to another is worth telling. One of exactly the band's width
    /// is.
    fn is_left(self, from: f64, to: f64) -> bool {
        let width = match self {
            Self::Absolute(width) => width,
            Self::Percent(percent) => percent / 100.0 * from.abs(),
        };
        from != to && (to - from).abs() >= width
    }
}

/// When samples are rolled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RollupWhen {
    /// At all times.
    Always,
    /// While the broker does not acknowledge.
    Offline,
}

/// Samples of a window, told as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollup {
    /// Length of the window.
    pub window: Duration,
    /// When.
    pub when: RollupWhen,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Smallest change worth telling; every sample where there is none.
    pub deadband: Option<Deadband>,
    /// How often an unchanged value is told all the same.
    pub heartbeat: Duration,
    /// Whether and when samples become one.
    pub rollup: Option<Rollup>,
}

/// The samples of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    sum: f64,
    /// Samples with a value; 0: then there is none of the others.
    pub count: u64,
    /// Samples without one.
    pub missing: u64,
    /// The last value.
    pub last: f64,
    /// The worst quality.
    pub quality: Quality,
    began: Monotonic,
}

impl Summary {
    fn new(began: Monotonic) -> Self {
        Self {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            count: 0,
            missing: 0,
            last: 0.0,
            quality: Quality::Ok,
            began,
        }
    }

    fn add(&mut self, reading: Reading) {
        self.quality = self.quality.max(reading.quality);
        let Some(value) = reading.value else {
            self.missing += 1;
            return;
        };
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
        self.count += 1;
        self.last = value;
    }

    /// The mean, between `min` and `max` whatever rounding did.
    pub fn mean(&self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nobody samples 2^53 times a window"
        )]
        let mean = self.sum / self.count as f64;
        mean.max(self.min).min(self.max)
    }
}

/// What is to be told after a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// The sample.
    Sample,
    /// The window that ends with the sample, as one.
    Summary(Summary),
    /// A window that ended before the sample, because the broker is back; then the sample.
    SummaryThenSample(Summary),
}

/// What is remembered of one sensor.
#[derive(Debug, Clone, Default)]
pub struct Told {
    last: Option<(Reading, Monotonic)>,
    window: Option<Summary>,
}

impl Told {
    /// Takes a sample, and says what is to be told. Nothing of that counts as told before
    /// [`Told::told`]: without room it stays to be said.
    pub fn take(
        &mut self,
        policy: &Policy,
        reading: Reading,
        offline: bool,
        now: Monotonic,
    ) -> Tell {
        let rollup = policy
            .rollup
            .filter(|rollup| offline || rollup.when == RollupWhen::Always);
        if let Some(rollup) = rollup {
            let window = self.window.get_or_insert(Summary::new(now));
            window.add(reading);
            return match now.since(window.began) >= rollup.window {
                true => Tell::Summary(*window),
                false => Tell::Nothing,
            };
        }
        if let Some(window) = self.window {
            return Tell::SummaryThenSample(window);
        }
        if self.is_worth_telling(policy, reading, now) {
            Tell::Sample
        } else {
            Tell::Nothing
        }
    }

    /// Takes note that what was to be told is in a record.
    pub fn told(&mut self, what: Tell, reading: Reading, now: Monotonic) {
        match what {
            Tell::Nothing => {}
            Tell::Sample => self.last = Some((reading, now)),
            Tell::Summary(_) => self.window = None,
            Tell::SummaryThenSample(_) => {
                self.window = None;
                self.last = Some((reading, now));
            }
        }
    }

    /// Adds a sample to the window under way: there was no room for either.
    pub fn join(&mut self, reading: Reading) {
        if let Some(window) = &mut self.window {
            window.add(reading);
        }
    }

    /// The window under way, to be told at the end.
    pub fn window(&self) -> Option<Summary> {
        self.window
    }

    fn is_worth_telling(&self, policy: &Policy, reading: Reading, now: Monotonic) -> bool {
        let Some((last, at)) = self.last else {
            return true;
        };
        if last.quality != reading.quality || now.since(at) >= policy.heartbeat {
            return true;
        }
        match (policy.deadband, last.value, reading.value) {
            (_, None, None) => false,
            (Some(deadband), Some(from), Some(to)) => deadband.is_left(from, to),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(deadband: Option<Deadband>, rollup: Option<(u64, RollupWhen)>) -> Policy {
        Policy {
            deadband,
            heartbeat: Duration::from_secs(60),
            rollup: rollup.map(|(window_s, when)| Rollup {
                window: Duration::from_secs(window_s),
                when,
            }),
        }
    }

    /// Which of the samples, one every ten seconds, are told.
    fn told(policy: &Policy, samples: &[Reading]) -> Vec<usize> {
        let mut memory = Told::default();
        let mut told = Vec::new();
        for (n, reading) in samples.iter().enumerate() {
            let now = Monotonic(n as u64 * 10_000);
            let what = memory.take(policy, *reading, false, now);
            memory.told(what, *reading, now);
            if what == Tell::Sample {
                told.push(n);
            }
        }
        told
    }

    fn values(values: &[f64]) -> Vec<Reading> {
        values.iter().map(|value| Reading::ok(*value)).collect()
    }

    #[test]
    fn a_deadband_tells_changes_and_the_heartbeat_the_rest() {
        let all = values(&[20.0, 20.0]);
        assert_eq!(told(&policy(None, None), &all), [0, 1]);
        let absolute = policy(Some(Deadband::Absolute(1.0)), None);
        assert_eq!(
            told(&absolute, &values(&[20.0, 20.9, 21.0, 20.5, 20.0, 20.0])),
            [0, 2, 4]
        );
        assert_eq!(told(&absolute, &values(&[20.0; 14])), [0, 6, 12]);
        let relative = policy(Some(Deadband::Percent(10.0)), None);
        assert_eq!(
            told(
                &relative,
                &values(&[100.0, 109.0, 110.0, 119.0, -2.0, -1.9])
            ),
            [0, 2, 4]
        );
        assert_eq!(told(&relative, &values(&[0.0, 0.0, 1e-9, 0.0])), [0, 2, 3]);
    }

    #[test]
    fn a_change_of_quality_is_told_and_its_lasting_is_not() {
        let gone = Reading::none(Quality::Missing);
        let samples = [
            Reading::ok(1.0),
            gone,
            gone,
            Reading::none(Quality::Crc),
            gone,
            gone,
            Reading::ok(1.0),
        ];
        assert_eq!(told(&policy(None, None), &samples), [0, 1, 3, 4, 6]);
        let wide = policy(Some(Deadband::Absolute(1e9)), None);
        assert_eq!(told(&wide, &samples), [0, 1, 3, 4, 6]);
        assert_eq!(told(&wide, &[gone; 8]), [0, 6]);
    }

    #[test]
    fn a_window_becomes_one() {
        let policy = policy(None, Some((20, RollupWhen::Always)));
        let mut memory = Told::default();
        let mut take = |second: u64, reading| {
            let now = Monotonic(second * 1000);
            let what = memory.take(&policy, reading, false, now);
            memory.told(what, reading, now);
            what
        };
        assert_eq!(take(0, Reading::ok(3.0)), Tell::Nothing);
        assert_eq!(take(10, Reading::none(Quality::Missing)), Tell::Nothing);
        let Tell::Summary(summary) = take(20, Reading::ok(2.0)) else {
            panic!("the window is over");
        };
        assert_eq!(
            (summary.min, summary.max, summary.mean(), summary.last),
            (2.0, 3.0, 2.5, 2.0)
        );
        assert_eq!(
            (summary.count, summary.missing, summary.quality),
            (2, 1, Quality::Missing)
        );
        assert_eq!(take(30, Reading::ok(1.0)), Tell::Nothing);
    }

    #[test]
    fn offline_windows_take_over_and_give_back() {
        let policy = policy(None, Some((60, RollupWhen::Offline)));
        let mut memory = Told::default();
        let mut take = |second: u64, offline, room| {
            let (now, reading) = (Monotonic(second * 1000), Reading::ok(1.0));
            let what = memory.take(&policy, reading, offline, now);
            if room {
                memory.told(what, reading, now);
            }
            match what {
                Tell::Nothing => (false, 0, false),
                Tell::Sample => (false, 0, true),
                Tell::Summary(summary) => (true, summary.count, false),
                Tell::SummaryThenSample(summary) => (true, summary.count, true),
            }
        };
        assert_eq!(take(0, false, true), (false, 0, true));
        assert_eq!(take(10, true, true), (false, 0, false));
        assert_eq!(take(60, true, true), (false, 0, false));
        assert_eq!(
            take(70, true, false),
            (true, 3, false),
            "there is no room for it"
        );
        assert_eq!(take(80, true, true), (true, 4, false), "so it grows");
        assert_eq!(take(90, true, true), (false, 0, false));
        assert_eq!(take(100, false, true), (true, 1, true));
        assert_eq!(take(110, false, true), (false, 0, true));
    }

    proptest! {
        #[test]
        fn nothing_is_further_from_what_was_told_than_the_band(
            steps in prop::collection::vec(-3.0_f64..3.0, 1..60),
            width in 0.1_f64..5.0,
        ) {
            let samples: Vec<_> = steps.iter().scan(0.0, |at, step| { *at += step; Some(*at) }).collect();
            let policy = policy(Some(Deadband::Absolute(width)), None);
            let told = told(&policy, &values(&samples));
            let mut last = 0;
            for (n, value) in samples.iter().enumerate() {
                last = if told.contains(&n) { n } else { last };
                prop_assert!((value - samples[last]).abs() < width || n == last);
                prop_assert!(n - last < 6, "a heartbeat is a minute at most");
            }
        }

        #[test]
        fn a_summary_is_of_its_samples(samples in prop::collection::vec(-1e6_f64..1e6, 1..50)) {
            let mut summary = Summary::new(Monotonic(0));
            values(&samples).into_iter().for_each(|reading| summary.add(reading));
            let mean = samples.iter().sum::<f64>() / samples.len() as f64;
            prop_assert!(summary.min <= summary.mean() && summary.mean() <= summary.max);
            prop_assert!((summary.mean() - mean).abs() < 1e-6);
            prop_assert_eq!(summary.count, samples.len() as u64);
            prop_assert!(samples.contains(&summary.min) && samples.contains(&summary.max));
            prop_assert_eq!(Some(&summary.last), samples.last());
        }
    }
}
