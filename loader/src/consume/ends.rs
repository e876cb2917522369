//! Where partitions end, and whether that would be heard of: from librdkafka's statistics.

use std::collections::BTreeMap;

use rdkafka::statistics::{Broker, Statistics};

use crate::metrics::Ends;

/// For how long nothing may have come from a broker that is heard, microseconds: it answers each fetch, within
/// `fetch.wait.max.ms` where there is nothing. A link that swallows everything stays "up" for a minute.
const SILENT_MAX: i64 = 3_000_000;

/// For how long a connection must have stood, microseconds. What is told before the first fetch was answered is what
/// was so before the connection was lost.
const SETTLED: i64 = 1_000_000;

/// The brokers that partitions were fetched from and heard of, as of the last statistics.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<i32, i32>);

impl Heard {
    /// The ends of a topic's partitions, where the client knows them.
    pub(super) fn ends(&mut self, topic: &str, statistics: &Statistics) -> BTreeMap<i32, Ends> {
        let topic = statistics.topics.get(topic);
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        let group = statistics.cgrp.as_ref();
        let has_group = group.is_some_and(|group| group.state == "up");
        let before = std::mem::take(&mut self.0);
        let offset = |offset: i64| u64::try_from(offset).ok();
        let mut all = BTreeMap::new();
        for (id, partition) in partitions {
            let of_it = |broker: &&Broker| broker.nodeid == partition.broker;
            // Those that are no brokers of their own (the coordinator, a bootstrap address) have -1, as a
            // partition without a leader has.
            let broker =
                (statistics.brokers.values().find(of_it)).filter(|broker| broker.nodeid >= 0);
            let is_heard = has_group && broker.is_some_and(is_heard);
            if is_heard {
                self.0.insert(*id, partition.broker);
            }
            let Some(end) = offset(partition.ls_offset) else {
                continue;
            };
            let ends = Ends {
                end,
                reached: offset(partition.eof_offset),
                waiting: offset(partition.fetchq_cnt).unwrap_or(0),
                // Of one that was not fetched from at the last look nothing may have come yet.
                is_near: is_heard && before.get(id) == Some(&partition.broker),
            };
            all.insert(*id, ends);
        }
        all
    }
}

fn is_heard(broker: &Broker) -> bool {
    matches!(&*broker.state, "UP" | "UPDATE")
        && broker.stateage >= SETTLED
        && (0..=SILENT_MAX).contains(&broker.rxidle)
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{ConsumerGroup, Partition, Topic};

    use super::*;

    /// What is said of a broker: its number, state, the age of that, and for how long nothing came.
    type Said<'a> = (i32, &'a str, i64, i64);

    fn statistics(brokers: &[Said<'_>], leader: i32, group: Option<&str>) -> Statistics {
        let broker = |(at, &(nodeid, state, stateage, rxidle)): (usize, &Said<'_>)| {
            let broker = Broker {
                nodeid,
                state: state.into(),
                stateage,
                rxidle,
                ..Broker::default()
            };
            (at.to_string(), broker)
        };
        let partition = Partition {
            broker: leader,
            ls_offset: 9,
            eof_offset: 9,
            ..Partition::default()
        };
        let topic = Topic {
            partitions: [(3, partition)].into(),
            ..Topic::default()
        };
        Statistics {
            brokers: brokers.iter().enumerate().map(broker).collect(),
            topics: [("t".to_owned(), topic)].into(),
            cgrp: group.map(|state| ConsumerGroup {
                state: state.into(),
                ..ConsumerGroup::default()
            }),
            ..Statistics::default()
        }
    }

    const GOOD: Said<'_> = (2, "UP", 60_000_000, 100_000);
    const COORDINATOR: Said<'_> = (-1, "UP", 60_000_000, 100_000);

    #[test]
    fn a_partition_is_near_while_its_broker_and_the_coordinator_are_heard() {
        let near_behind_a_good_one = |brokers: &[Said<'_>], leader: i32, group: Option<&str>| {
            let mut heard = Heard::default();
            heard.ends("t", &statistics(&[GOOD, COORDINATOR], 2, Some("up")));
            let ends = heard.ends("t", &statistics(brokers, leader, group));
            let elsewhere = heard.ends("other", &statistics(brokers, leader, group));
            assert!(elsewhere.is_empty());
            ends[&3].is_near
        };
        let up = Some("up");
        assert!(near_behind_a_good_one(&[COORDINATOR, GOOD], 2, up));
        for (brokers, leader, group, why) in [
            (vec![(2, "DOWN", 60_000_000, 0)], 2, up, "it is down"),
            (vec![(2, "CONNECT", 60_000_000, 0)], 2, up, "not yet"),
            (vec![(2, "UP", 60_000_000, 3_000_001)], 2, up, "silent"),
            (vec![(2, "UP", 60_000_000, -1)], 2, up, "nothing came ever"),
            (vec![(2, "UP", 999_999, 0)], 2, up, "back just now"),
            (vec![GOOD], 2, Some("wait-coord"), "no coordinator"),
            (vec![GOOD], 2, None, "no group"),
            (vec![COORDINATOR, GOOD], -1, up, "no leader"),
            (
                vec![GOOD, (4, "UP", 60_000_000, 0)],
                4,
                up,
                "it moved just now",
            ),
        ] {
            let brokers: Vec<_> = [vec![COORDINATOR], brokers].concat();
            assert!(!near_behind_a_good_one(&brokers, leader, group), "{why}");
        }
    }

    #[test]
    fn a_broker_has_to_be_heard_twice() {
        let mut heard = Heard::default();
        let mut is_near = |leader| {
            let brokers = [GOOD, (4, "UP", 60_000_000, 0)];
            heard.ends("t", &statistics(&brokers, leader, Some("up")))[&3].is_near
        };
        let seen = [2, 2, 4, 4, 2, 2].map(&mut is_near);
        assert_eq!(seen, [false, true, false, true, false, true]);
    }
}
