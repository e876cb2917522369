//! Against librdkafka's mock cluster: real sockets and the real client, no broker.

use super::*;

use headwater_msk::security::Security;
use headwater_msk::{CredentialSettings, Kafka};
use headwater_record::{Generation, Kind, StreamId, Tag, headers};
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use crate::batch::Entry;
use crate::produce::outcome::Outcome;

type Mock = MockCluster<'static, DefaultProducerContext>;

const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &[u8] = b"pi-7/s";

fn cluster() -> Mock {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    cluster
}

fn kafka(cluster: &Mock, options: &[(&str, &str)]) -> Arc<Cluster> {
    let quick = [
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "200"),
    ];
    let kafka = Kafka {
        brokers: vec![cluster.bootstrap_servers()],
        topic: "t".into(),
        security: Security::default(),
        options: quick
            .iter()
            .chain(options)
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    };
    Cluster::open(&kafka, &CredentialSettings::default(), "pi-7").unwrap()
}

/// By device and source: what every record is read back with.
fn key() -> Key {
    Key::parse("{device}/{source}").unwrap()
}

fn producer(kafka: &Arc<Cluster>) -> (Producer, Arc<Notify>) {
    let news = Arc::new(Notify::new());
    let producer = Producer::new(
        kafka,
        (&"pi-7".parse().unwrap(), &key()),
        (Undated::default(), false),
        Arc::clone(&news),
    )
    .unwrap();
    (producer, news)
}

fn batch(start: u64, values: &[&str]) -> Arc<Batch> {
    let mut batch = Batch {
        stream: StreamId::parse("pi-7/s//f").unwrap(),
        generation: Generation(9),
        start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    };
    for value in values {
        batch.values.extend_from_slice(value.as_bytes());
        batch.entries.push(Entry {
            end: batch.end() + 10,
            value_end: u32::try_from(batch.values.len()).unwrap(),
            kind: if *value == "close" {
                Kind::Close
            } else {
                Kind::Data
            },
        });
    }
    Arc::new(batch)
}

/// Reports until there are `count`, as delivery's loop takes them: woken by the news.
fn wait(producer: &mut Producer, news: &Notify, count: usize) -> Vec<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut reports = producer.take_reports();
    runtime.block_on(async {
        while reports.len() < count {
            tokio::time::timeout(PATIENCE, news.notified())
                .await
                .expect("reports came in time");
            reports.extend(producer.take_reports());
            producer.resume();
        }
    });
    reports
}

fn ok(id: u64) -> Report {
    Report::Batch {
        id: BatchId(id),
        outcome: Outcome::Delivered,
    }
}

fn read(cluster: &Mock, count: usize) -> Vec<(String, String, String)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("t", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&from).unwrap();
    (0..count)
        .map(|_| {
            let message = consumer
                .poll(PATIENCE)
                .expect("a record came in time")
                .unwrap();
            assert_eq!(message.key(), Some(KEY));
            let list = message.headers().unwrap();
            let tag: Tag<'_> =
                headers::decode(list.iter().map(|header| (header.key, header.value)))
                    .unwrap()
                    .unwrap();
            assert_eq!((tag.stream, tag.generation), ("pi-7/s//f", Generation(9)));
            let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
            (value, tag.span.to_string(), format!("{:?}", tag.kind))
        })
        .collect()
}

#[test]
fn a_batch_is_reported_once_and_arrives_as_it_was() {
    let cluster = cluster();
    let (mut producer, news) = producer(&kafka(&cluster, &[]));
    producer.send(BatchId(1), batch(0, &["a", "b"]));
    producer.send(BatchId(2), batch(20, &["close"]));
    assert_eq!(wait(&mut producer, &news, 2), [ok(1), ok(2)]);
    let expected = [
        ("a", "[0, 10)", "Data"),
        ("b", "[10, 20)", "Data"),
        ("close", "[20, 30)", "Close"),
    ];
    let arrived = read(&cluster, 3);
    let arrived: Vec<_> = arrived.iter().map(|(a, b, c)| (&**a, &**b, &**c)).collect();
    assert_eq!(arrived, expected);
    producer.close();
}

#[test]
fn a_broker_that_was_away_gets_everything_in_order() {
    let cluster = cluster();
    let (mut producer, news) = producer(&kafka(&cluster, &[]));
    producer.send(BatchId(1), batch(0, &["a"]));
    assert_eq!(wait(&mut producer, &news, 1), [ok(1)]);
    cluster.broker_down(-1).unwrap();
    for id in 2..30 {
        producer.send(BatchId(id), batch(10 * (id - 1), &["b"]));
    }
    assert_eq!(producer.take_reports(), []);
    cluster.broker_up(-1).unwrap();
    assert_eq!(
        wait(&mut producer, &news, 28),
        (2..30).map(ok).collect::<Vec<_>>()
    );
    let spans: Vec<_> = read(&cluster, 29)
        .into_iter()
        .map(|(_, span, _)| span)
        .collect();
    let expected: Vec<_> = (0..29)
        .map(|i| format!("[{}, {})", 10 * i, 10 * i + 10))
        .collect();
    assert_eq!(spans, expected);
}

#[test]
fn a_full_queue_only_delays() {
    let cluster = cluster();
    let (mut producer, _news) = producer(&kafka(
        &cluster,
        &[("queue.buffering.max.messages", "3"), ("linger.ms", "1")],
    ));
    let values: Vec<String> = (0..50).map(|i| format!("v{i}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    producer.send(BatchId(1), batch(0, &values));
    producer.send(BatchId(2), batch(500, &["last"]));
    assert_eq!(producer.waiting.len(), 2, "three records fill the queue");
    assert!(producer.is_waiting());
    let mut reports = Vec::new();
    while reports.len() < 2 {
        producer.resume();
        std::thread::sleep(Duration::from_millis(5));
        reports.extend(producer.take_reports());
    }
    assert_eq!(reports, [ok(1), ok(2)]);
    let arrived: Vec<_> = read(&cluster, 51)
        .into_iter()
        .map(|(value, ..)| value)
        .collect();
    assert_eq!(arrived[..50], values);
}

#[test]
fn what_the_broker_refuses_comes_back_and_can_be_sent_again() {
    let cluster = cluster();
    // librdkafka holds on to a refused topic until its next look at the metadata.
    let (mut producer, news) = producer(&kafka(
        &cluster,
        &[("topic.metadata.refresh.interval.ms", "100")],
    ));
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[denied]);
    let refused = Report::Batch {
        id: BatchId(1),
        outcome: Outcome::Retry,
    };
    let mut reports = Vec::new();
    for _ in 0..300 {
        producer.send(BatchId(1), batch(0, &["a", "b"]));
        reports.extend(wait(&mut producer, &news, 1));
        if reports.last() == Some(&ok(1)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        (reports.first(), reports.last()),
        (Some(&refused), Some(&ok(1)))
    );
    assert_eq!(read(&cluster, 2)[1].0, "b");
    producer.close();
}

#[test]
fn a_client_that_is_given_up_is_silent() {
    let cluster = cluster();
    cluster.broker_down(-1).unwrap();
    let (mut old, news) = producer(&kafka(&cluster, &[]));
    old.send(BatchId(1), batch(0, &["a"]));
    let reports = Arc::clone(&old.reports);
    drop(old);
    cluster.broker_up(-1).unwrap();
    let mut new = Producer::new(
        &kafka(&cluster, &[]),
        (&"pi-7".parse().unwrap(), &key()),
        (Undated::default(), false),
        Arc::clone(&news),
    )
    .unwrap();
    new.send(BatchId(1), batch(0, &["a"]));
    assert_eq!(wait(&mut new, &news, 1), [ok(1)]);
    assert_eq!(read(&cluster, 1)[0].0, "a");
    assert!(
        !Arc::ptr_eq(&reports, &new.reports),
        "what the old one says goes to a list that nobody reads"
    );
}

#[test]
fn options_go_before_what_is_not_reserved() {
    let cluster = cluster();
    let config = properties(
        &kafka(&cluster, &[("compression.codec", "lz4")]),
        &"d".parse().unwrap(),
    )
    .unwrap();
    assert_eq!(config.get("compression.codec"), Some("lz4"));
    assert_eq!(config.get("message.timeout.ms"), Some("0"));
    assert_eq!(config.get("client.id"), Some("headwater-d"));
}

#[test]
fn bytes_that_pass_are_counted_where_somebody_asks() {
    let cluster = cluster();
    let news = Arc::new(Notify::new());
    let mut producer = Producer::new(
        &kafka(&cluster, &[]),
        (&"pi-7".parse().unwrap(), &key()),
        (Undated::default(), true),
        Arc::clone(&news),
    )
    .unwrap();
    let value = "x".repeat(50_000);
    // Three counts: a client whose brokers were not understood would be lost at the second.
    for count in 1..=3 {
        producer.send(BatchId(count), batch(0, &[&value]));
        let (mut delivered, mut bytes) = (false, 0);
        while !delivered || bytes == 0 {
            for report in producer.take_reports() {
                match report {
                    Report::Batch { id, outcome } => {
                        assert_eq!((id, outcome), (BatchId(count), Outcome::Delivered));
                        delivered = true;
                    }
                    Report::Wire(more) => bytes += more,
                    Report::Lost => panic!("lost"),
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(bytes < 50_000, "{bytes}: compressed");
    }
    producer.close();
}

#[test]
fn a_client_that_has_forgotten_every_broker_is_lost() {
    let (producer, _news) = producer(&kafka(&cluster(), &[]));
    let context = producer.client.context();
    let says = |source: &str| {
        let text = format!(
            r#"{{"tx_bytes": 1, "rx_bytes": 1, "brokers": {{
                ":0/internal": {{"name": ":0/internal", "source": "internal"}},
                "b": {{"name": "b", "source": "{source}"}}}}}}"#
        );
        context.stats_raw(text.as_bytes());
        producer.take_reports()
    };
    assert_eq!(says("learned"), []);
    assert_eq!(says("logical"), [], "it may be told of others at once");
    assert_eq!(says("logical"), [Report::Lost]);
    producer.close();
}

#[test]
fn the_queue_of_librdkafka_is_what_is_reckoned_with() {
    assert_eq!(QUEUE_KIB_MAX.to_string(), QUEUE_KIB_MAX_TEXT);
}
