//! A batch's records, one by one, to librdkafka.

use std::borrow::Cow;
use std::sync::Arc;

use headwater_record::Kind;
use headwater_record::headers::{self, SpanHeader};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};

use super::context::Context;
use super::reports::Tally;
use crate::backdate::Backdate;
use crate::batch::{Batch, RecordRef};

/// A batch of which librdkafka has not taken every record yet.
pub(super) struct Waiting {
    pub(super) batch: Arc<Batch>,
    pub(super) tally: Arc<Tally>,
    /// How many of its records librdkafka has.
    pub(super) taken: usize,
}

/// Hands over the records that are left: `NoError` once librdkafka has all of them.
pub(super) fn hand_over(
    client: &BaseProducer<Context>,
    (topic, key): (&str, &str),
    backdate: Option<Backdate>,
    waiting: &mut Waiting,
) -> RDKafkaErrorCode {
    let batch = Arc::clone(&waiting.batch);
    for record in batch.records().skip(waiting.taken) {
        let value = match &backdate {
            None => Cow::Borrowed(record.value),
            Some(backdate) => backdate.value(waiting.tally.id(), record),
        };
        // No timestamp: librdkafka stamps the time of sending. A week-old backlog with the times of
        // its events would fall to time retention at once.
        let message = BaseRecord::with_opaque_to(topic, Arc::clone(&waiting.tally))
            .key(key)
            .payload(&*value)
            .headers(headers_of(&batch, record));
        if let Err((error, _)) = client.send(message) {
            return error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        }
        waiting.taken += 1;
    }
    RDKafkaErrorCode::NoError
}

fn headers_of(batch: &Batch, record: RecordRef<'_>) -> OwnedHeaders {
    let span = SpanHeader::new(batch.generation, record.span);
    let kind = record.kind.header();
    let mut owned = OwnedHeaders::new_with_capacity(2 + usize::from(kind.is_some()))
        .insert(Header {
            key: headers::STREAM,
            value: Some(batch.stream.as_str()),
        })
        .insert(Header {
            key: headers::SPAN,
            value: Some(span.as_bytes()),
        });
    if let Some(kind) = kind {
        debug_assert_ne!(record.kind, Kind::Data, "data has no hw-kind");
        owned = owned.insert(Header {
            key: headers::KIND,
            value: Some(kind),
        });
    }
    owned
}
