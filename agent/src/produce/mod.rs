//! Batches to Kafka, and what became of them: [`producer`] holds librdkafka's client, [`key`] says what
//! keys records have, [`outcome`] what a delivery report means.

pub mod key;
pub mod outcome;
pub mod producer;
