use std::collections::BTreeMap;

use super::*;

use headwater_msk::security::Security;
use headwater_msk::{CredentialSettings, Kafka};
use rdkafka::client::ClientContext;
use rdkafka::statistics::{Broker, Statistics};

#[test]
fn a_client_that_has_forgotten_every_broker_is_given_up() {
    let kafka = Kafka {
        brokers: vec!["localhost:9092".into()],
        topic: "t".into(),
        security: Security::default(),
        options: BTreeMap::new(),
    };
    let context = Context {
        topic: kafka.topic.clone(),
        gate: Arc::default(),
        assigned: mpsc::channel(1).0,
        prefetch: Arc::new(Prefetch::new(1)),
        finish_ms: 0,
        metrics: Arc::default(),
        lanes: Mutex::default(),
        failure: Mutex::default(),
        beyond: Mutex::default(),
        is_assigned: AtomicBool::new(false),
        voice: Voice::default(),
        known: Known::default(),
        cluster: Cluster::open(&kafka, &CredentialSettings::default(), "loader").unwrap(),
    };
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
