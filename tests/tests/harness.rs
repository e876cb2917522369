//! The harness itself: a broker that survives what tests do to it, and the parts together.

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::oracle::{Report, stored, wait_for, wait_until};
use headwater_tests::outside::unique;
use headwater_tests::s3::{ACCESS_KEY, S3, SECRET_KEY};
use headwater_tests::writer::Writer;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

fn numbered(range: std::ops::Range<u32>) -> impl Iterator<Item = Record> {
    range.map(|number| Record {
        partition: i32::try_from(number % 3).expect("it is below 3"),
        key: Some(b"device".to_vec()),
        headers: vec![("hw-stream".to_owned(), b"d/s/f".to_vec())],
        value: number.to_string().into_bytes(),
        ..Record::default()
    })
}

fn numbers(kafka: &Kafka, topic: &str) -> Vec<u32> {
    let records = kafka.records(topic);
    let mut numbers: Vec<u32> = records
        .iter()
        .map(|r| r.text().parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_is_produced_can_be_read_with_keys_and_headers() {
    let kafka = Kafka::shared();
    let topic = unique("read");
    kafka.create_topic(&topic, 3, &[("retention.ms", "600000")]);
    assert!(kafka.records(&topic).is_empty());
    kafka.produce(&topic, numbered(0..1000));
    assert_eq!(numbers(kafka, &topic), (0..1000).collect::<Vec<_>>());
    assert_eq!(kafka.depth(&topic), 1000);
    let records = kafka.records(&topic);
    assert_eq!(records[0].header("hw-stream").as_deref(), Some("d/s/f"));
    assert_eq!(records[0].key.as_deref(), Some(&b"device"[..]));
    let order = |r: &Record| (r.partition, r.offset);
    assert!(records.is_sorted_by_key(order));
    kafka.grow_topic(&topic, 4);
    assert_eq!(kafka.records(&topic).len(), 1000);
}

#[test]
fn a_groups_offsets_are_shown_with_their_metadata() {
    let kafka = Kafka::shared();
    let (topic, group) = (unique("offsets"), unique("group"));
    kafka.create_topic(&topic, 2, &[]);
    kafka.produce(&topic, numbered(0..1).chain(numbered(1..2)));
    let consumer: BaseConsumer = kafka.client().set("group.id", &group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    let mut partition = offsets.add_partition(&topic, 1);
    partition.set_offset(Offset::Offset(1)).unwrap();
    partition.set_metadata("an intent");
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    let committed = kafka.committed(&group, &topic);
    assert_eq!(committed[0].offset, None);
    assert_eq!(
        (committed[1].offset, &*committed[1].metadata),
        (Some(1), "an intent")
    );
}

#[test]
fn a_killed_broker_comes_back_with_its_data() {
    let kafka = Kafka::start(1);
    kafka.create_topic("t", 3, &[]);
    kafka.produce("t", numbered(0..500));
    let bootstrap = kafka.bootstrap().to_owned();
    kafka.while_down(|| {
        let consumer: BaseConsumer = kafka.client().create().unwrap();
        let answer = consumer.fetch_metadata(None, Duration::from_millis(300));
        assert!(answer.is_err());
    });
    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_eq!(numbers(&kafka, "t"), (0..500).collect::<Vec<_>>());
    kafka.stop();
    kafka.restart();
    kafka.produce("t", numbered(500..600));
    kafka.while_paused(|| {
        let consumer: BaseConsumer = kafka.client().create().unwrap();
        let answer = consumer.fetch_metadata(None, Duration::from_millis(300));
        assert!(answer.is_err());
    });
    wait_until("it answers again", Duration::from_secs(20), || {
        numbers(&kafka, "t").len() == 600
    });
}

/// As after a stall of the machine: the controller takes the broker for gone, and its partitions have no
/// leader until it is heard of again.
#[test]
fn a_broker_that_stood_still_beyond_its_session_can_be_asked_at_once() {
    let kafka = Kafka::start(1);
    kafka.create_topic("t", 3, &[]);
    kafka.produce("t", numbered(0..500));
    for _ in 0..3 {
        kafka.while_paused(|| std::thread::sleep(Duration::from_secs(4)));
        let start = headwater_tests::clock::now();
        while start.elapsed() < Duration::from_secs(3) {
            assert_eq!(kafka.depth("t"), 500);
            assert_eq!(numbers(&kafka, "t").len(), 500);
            assert_eq!(kafka.committed("g", "t").len(), 3);
            assert_eq!(kafka.leader("t", 0), 0);
        }
    }
}

#[test]
fn three_nodes_survive_the_loss_of_any_one() {
    let kafka = Kafka::start(3);
    kafka.create_topic("t", 3, &[]);
    for node in 0..3 {
        kafka.kill_node(node);
        let from = u32::try_from(node).unwrap() * 100;
        kafka.produce("t", numbered(from..from + 100));
        kafka.restart();
    }
    assert_eq!(numbers(&kafka, "t"), (0..300).collect::<Vec<_>>());
}

#[test]
fn the_oracle_sees_what_lies_in_s3() {
    let s3 = S3::shared();
    let bucket = s3.bucket(&unique("oracle"));
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path().join("a.log"), "a", 1);
    writer.write(300);
    let object = |lines: Vec<String>| {
        let object = |line| {
            format!(
                "{}\n",
                serde_json::json!({ "device": "d", "message": line })
            )
        };
        lines.into_iter().map(object).collect::<String>()
    };
    let lines: Vec<String> = writer.lines().collect();
    let packed = zstd::encode_all(object(lines[..200].to_vec()).as_bytes(), 3).unwrap();
    s3.put(&bucket, "p/one.ndjson.zst", packed);
    s3.put(&bucket, "_headwater/state", "not a line");
    let report = Report::of([&writer], s3, &bucket, "");
    assert_eq!((report.lost.len(), report.stored), (100, 200));
    s3.put(&bucket, "p/two.ndjson", object(lines[199..].to_vec()));
    let report = Report::of([&writer], s3, &bucket, "");
    assert!(report.is_complete() && !report.is_exact());
    let wanted = ["p/one.ndjson.zst", "p/two.ndjson"];
    assert_eq!(
        report.duplicated,
        [(lines[199].clone(), wanted.map(str::to_owned).to_vec())]
    );
    s3.put(&bucket, "p/two.ndjson", object(lines[200..].to_vec()));
    Report::of([&writer], s3, &bucket, "p/").assert_exact();
    let count = wait_for("the lines are there", Duration::from_secs(1), || {
        Ok(stored(s3, &bucket, "p/").len())
    });
    assert_eq!(count, 300);
}

#[test]
fn an_outside_broker_and_s3_server_serve_as_well() {
    let kafka = Kafka::at(Kafka::shared().bootstrap());
    let topic = unique("outside");
    kafka.create_topic(&topic, 3, &[]);
    kafka.produce(&topic, numbered(0..9));
    assert_eq!(numbers(&kafka, &topic), (0..9).collect::<Vec<_>>());
    assert!(kafka.is_outside());

    let ours = S3::start();
    let s3 = S3::at(ours.endpoint(), ACCESS_KEY, SECRET_KEY);
    let bucket = s3.bucket("outside");
    s3.bucket("outside");
    let keys: Vec<String> = (0..1100).map(|number| format!("p/{number:04}")).collect();
    for key in &keys {
        ours.put(&bucket, key, key.as_bytes());
    }
    assert_eq!(s3.keys(&bucket, "p/"), keys);
    assert_eq!(
        s3.objects(&bucket, "p/0007"),
        ours.objects(&bucket, "p/0007")
    );
    assert!(s3.is_outside());
}
