//! What brokers themselves count of their connections (`tests/kafka/src/headwater/Counters.java`).

use super::listener::Listener;
use super::msk::Msk;
use crate::clock;
use crate::oracle::wait_until;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(30);

/// Of one listener, on all nodes, since they were started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Were made.
    pub made: u64,
    /// Were closed, by whichever side.
    pub closed: u64,
    /// Authentications of a connection that had authenticated before.
    pub again: u64,
    /// Were closed by the broker because their session was over.
    pub expired: u64,
    /// Were made to wait, since they came faster than
    /// [`connection_limits`](super::MskSetup::connection_limits) allows: the mean wait, milliseconds.
    pub held_up_ms: u64,
}

impl Msk {
    /// What the running nodes have counted, looked at after this was called.
    ///
    /// # Panics
    /// If a node does not say.
    pub fn connections(&self, listener: Listener) -> Connections {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut sum = Connections::default();
        for node in self.kafka().running() {
            let mut counters = Value::Null;
            wait_until("a broker counts its connections", PATIENCE, || {
                counters = self.iam().counters(node);
                let at_ms = counters["at_ms"].as_u64().unwrap_or(0);
                u128::from(at_ms) > now.as_millis()
            });
            let count = |name: &str| {
                let value = &counters[format!("{} {name}", listener.name())];
                value.as_u64().unwrap_or(0)
            };
            sum.made += count("connection-creation-total");
            sum.closed += count("connection-close-total");
            sum.again += count("successful-reauthentication-total");
            sum.expired += count("expired-connections-killed-count");
            sum.held_up_ms += count("connection-accept-throttle-time");
        }
        sum
    }
}
