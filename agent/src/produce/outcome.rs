//! What a delivery report means: librdkafka's error code into what delivery does. Pure.
//!
//! librdkafka itself retries whatever is worth it, without end (`message.timeout.ms=0`). What it
//! reports as failed is therefore either for a person to mend (rights, sizes, a topic that does not
//! exist), and is sent again, slowly, until somebody did; or the client is of no use any more.

use rdkafka::types::RDKafkaErrorCode;

/// What became of a batch. Of several records the worst counts; the order is the order of gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The broker has it, on as many replicas as it wants.
    Delivered,
    /// It has not, or nobody knows: send it again, after a while.
    Retry,
    /// The client can send nothing any more: make a new one, and send everything again.
    Recreate,
}

/// What a record's report, or the refusal to take it, means.
pub fn outcome(code: RDKafkaErrorCode) -> Outcome {
    match code {
        RDKafkaErrorCode::NoError => Outcome::Delivered,
        // A fatal error of the idempotent producer (KIP-360's cases, a lost sequence): librdkafka
        // refuses everything from then on. A purge is our own doing, when a client is given up.
        RDKafkaErrorCode::Fatal
        | RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch
        | RDKafkaErrorCode::InvalidProducerIdMapping
        | RDKafkaErrorCode::UnknownProducerId
        | RDKafkaErrorCode::OutOfOrderSequenceNumber
        | RDKafkaErrorCode::GaplessGuarantee
        | RDKafkaErrorCode::Inconsistent
        | RDKafkaErrorCode::CriticalSystemResource
        | RDKafkaErrorCode::BrokerDestroy
        | RDKafkaErrorCode::DestroyBroker
        | RDKafkaErrorCode::PurgeQueue
        | RDKafkaErrorCode::PurgeInflight => Outcome::Recreate,
        // Every other, those that later versions of librdkafka invent included: nothing is lost by
        // sending again.
        _ => Outcome::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RDKafkaErrorCode as Code;

    #[test]
    fn every_code_has_an_outcome_and_only_success_settles() {
        let recreate = [
            Code::Fatal,
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::InvalidProducerIdMapping,
            Code::UnknownProducerId,
            Code::OutOfOrderSequenceNumber,
            Code::GaplessGuarantee,
            Code::Inconsistent,
            Code::CriticalSystemResource,
            Code::BrokerDestroy,
            Code::DestroyBroker,
            Code::PurgeQueue,
            Code::PurgeInflight,
        ];
        let mut seen = 0;
        for number in -200..=200 {
            let Ok(native) = rdkafka::types::RDKafkaRespErr::try_from(number) else {
                continue;
            };
            seen += 1;
            let code = Code::from(native);
            let expected = match code {
                Code::NoError => Outcome::Delivered,
                code if recreate.contains(&code) => Outcome::Recreate,
                _ => Outcome::Retry,
            };
            assert_eq!(outcome(code), expected, "{code:?}");
        }
        assert!(seen > 150, "librdkafka's table was walked: {seen}");
    }

    #[test]
    fn what_a_person_must_mend_is_sent_again() {
        for code in [
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::MessageSizeTooLarge,
            Code::MessageBatchTooLarge,
            Code::UnknownTopic,
            Code::UnknownTopicOrPartition,
            Code::UnknownPartition,
            Code::InvalidTimestamp,
            Code::InvalidRecord,
            Code::PolicyViolation,
            Code::MessageTimedOut,
            Code::NotEnoughReplicas,
            Code::Authentication,
            Code::QueueFull,
        ] {
            assert_eq!(outcome(code), Outcome::Retry, "{code:?}");
        }
    }

    #[test]
    fn the_worst_counts() {
        assert_eq!(
            [Outcome::Delivered, Outcome::Recreate, Outcome::Retry]
                .into_iter()
                .max(),
            Some(Outcome::Recreate)
        );
    }
}
