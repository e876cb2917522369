use std::collections::BTreeMap;

use super::*;
use crate::consume::lane::Lane;
use crate::consume::tenure::{Call, tenure};

use headwater_msk::security::Security;
use headwater_msk::{CredentialSettings, Kafka};
use rdkafka::client::ClientContext;
use rdkafka::statistics::{Broker, Statistics};

fn context() -> Context {
    let kafka = Kafka {
        brokers: vec!["localhost:9092".into()],
        topic: "t".into(),
        security: Security::default(),
        options: BTreeMap::new(),
    };
    Context {
        topic: kafka.topic.clone(),
        gate: Arc::default(),
        assigned: mpsc::channel(1).0,
        prefetch: Arc::new(Prefetch::new(1)),
        finish_ms: 0,
        metrics: Arc::default(),
        lanes: Mutex::default(),
        failure: Mutex::default(),
        polled_ms: Arc::default(),
        beyond: Mutex::default(),
        heard: Mutex::default(),
        is_assigned: AtomicBool::new(false),
        ends: AtomicBool::new(false),
        voice: Voice::default(),
        known: Known::default(),
        cluster: Cluster::open(&kafka, &CredentialSettings::default(), "loader").unwrap(),
    }
}

/// Which partition cannot be read librdkafka does not say. One that goes, one that is read, and one whose worker
/// has ended are not it; and where none is left, all are assigned anew.
#[tokio::test]
async fn only_what_was_not_read_yet_is_taken_for_a_partition_behind_its_end() {
    let context = context();
    let mut ends = BTreeMap::new();
    for partition in 3..8 {
        context.beyond().insert(partition, "beyond".to_owned());
        let (sender, records) = mpsc::channel(1);
        let (tenant, tenure) = tenure();
        let lane = Lane::new(sender, tenant, &context.prefetch);
        context.lanes().open(partition, lane);
        ends.insert(partition, (records, tenure));
    }
    let mut going = TopicPartitionList::new();
    going.add_partition("t", 3);
    context.revoke(&going);
    context
        .lanes()
        .get_mut(4)
        .unwrap()
        .push(9, 0, None, Identity::Foreign);
    ends.remove(&5);
    assert_eq!(context.beyond().keys().next(), Some(&4));
    assert!(context.stop_beyond() && context.stop_beyond());
    assert!(!context.stop_beyond());
    for partition in [6, 7] {
        let (_, tenure) = ends.get_mut(&partition).unwrap();
        assert_eq!(tenure.call().await, Call::Stop("beyond".to_owned()));
    }
}

#[test]
fn a_client_that_has_forgotten_every_broker_is_given_up() {
    let context = context();
    let says = |source: &str| {
        let broker = Broker {
            source: source.into(),
            ..Broker::default()
        };
        context.stats(Statistics {
            brokers: [("b".to_owned(), broker)].into(),
            ..Statistics::default()
        });
        context.failure.lock().unwrap().is_some()
    };
    assert!(!says("learned"));
    assert!(!says("logical"), "it may be told of others at once");
    assert!(says("logical"));
}
