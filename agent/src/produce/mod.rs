//! Batches to Kafka, and what became of them: [`producer`] holds librdkafka's client, [`outcome`]
//! says what a delivery report means.

pub mod outcome;
pub mod producer;
