//! A partition's life with a loader: it is taken up late, stopped, taken away and given back, and what it was
//! about is said all the time. Nothing of it is lost or stored twice, and no other partition stands still.

use std::time::Duration;

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{Address, free_address};
use headwater_tests::process::Loader;
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(120);

/// Records of one partition, `n` of them, and their lines.
fn give(loading: &Loading<'_>, partition: i32, name: &str, n: usize) -> Vec<String> {
    let lines: Vec<String> = (0..n)
        .map(|i| format!("{name} {i} of {partition}"))
        .collect();
    let records = lines.iter().map(|line| Record {
        partition,
        value: format!("{{\"message\":\"{line}\"}}").into_bytes(),
        ..Record::default()
    });
    loading.kafka.produce(&loading.topic, records);
    lines
}

fn all_is_stored(loading: &Loading<'_>, written: &[String]) -> bool {
    loading.report(written.iter().cloned()).lost.is_empty()
}

/// Until its state can be read it is not ready, and says why, and how much waits.
#[test]
fn a_partition_that_cannot_be_taken_up_is_told() {
    cannot_be_taken_up(CLASSIC);
}

#[test]
fn a_partition_that_cannot_be_taken_up_is_told_when_the_broker_assigns() {
    cannot_be_taken_up(KIP_848);
}

fn cannot_be_taken_up(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "late", 2).of(group);
    let listen = free_address();
    let http = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let mut written = give(&loading, 0, "first", 5);
    written.extend(give(&loading, 1, "first", 5));
    let state = format!("_headwater/state/{}/1/", loading.topic);
    s3.fault(Fault::on(Op::Get, Kind::Denied).for_keys_with(&state));
    let loader = loading.loader(&http).start();
    wait_until("it says what waits, and why", PATIENCE, || {
        let reason = "partition 1 is not loaded: the state cannot be read yet: cannot get";
        let said = page(&listen, "/readyz");
        said.is_some_and(|(status, said)| status == 503 && said.contains(reason))
            && metric(&listen, "headwater_loader_durable_lag_records") == Some(5)
            && metric(&listen, "headwater_loader_durable_lag_seconds") > Some(0)
            && metric(&listen, "headwater_loader_partitions_waiting") == Some(1)
            && loading.report(written.clone()).lost.len() == 5
    });
    s3.clear_faults();
    wait_until("all is stored, and it is ready", PATIENCE, || {
        all_is_stored(&loading, &written)
            && page(&listen, "/readyz") == Some((200, "ready\n".to_owned()))
            && metric(&listen, "headwater_loader_durable_lag_records") == Some(0)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}

/// What only a person can mend stops one partition alone. It is said, and goes on once it is mended.
#[test]
fn a_partition_with_a_broken_state_holds_up_no_other() {
    broken_state(CLASSIC);
}

#[test]
fn a_partition_with_a_broken_state_holds_up_no_other_when_the_broker_assigns() {
    broken_state(KIP_848);
}

fn broken_state(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "broken", 2).of(group);
    let listen = free_address();
    let http = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let both = |name: &str| {
        [0, 1]
            .map(|partition| give(&loading, partition, name, 5))
            .concat()
    };
    let mut written = both("first");
    let loader = loading.loader(&http).start();
    wait_until("all is stored", PATIENCE, || {
        all_is_stored(&loading, &written)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let folder = format!("data/_headwater/state/{}/1/", loading.topic);
    let (state, bytes) = s3
        .objects(&loading.bucket, &folder)
        .pop()
        .expect("its state");
    s3.put(&loading.bucket, &state, "no state");
    written.extend(both("second"));
    let loader = loading.loader(&http).start();
    let lost = || loading.report(written.clone()).lost.len();
    wait_until(
        "the other is loaded, and it is said of this one",
        PATIENCE,
        || {
            let reason = format!(
                "partition 1 is not loaded: {}",
                state.trim_start_matches("data/")
            );
            let said = page(&listen, "/readyz");
            lost() == 5
                && said.is_some_and(|(status, said)| status == 503 && said.starts_with(&reason))
                && metric(&listen, "headwater_loader_partition_stops_total") == Some(1)
        },
    );
    s3.put(&loading.bucket, &state, bytes);
    wait_until("all is stored", PATIENCE, || lost() == 0);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written.clone()).assert_exact();
    loading.assert_proven();
}

/// The group stands behind the end of a partition, as where its topic was made anew: that is said where a person
/// looks, and the other is loaded.
#[test]
fn a_partition_that_stands_behind_its_end_is_told() {
    behind_its_end(CLASSIC);
}

#[test]
fn a_partition_that_stands_behind_its_end_is_told_when_the_broker_assigns() {
    behind_its_end(KIP_848);
}

fn behind_its_end(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "behind", 2).of(group);
    let listen = free_address();
    let http = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let written = give(&loading, 0, "first", 5);
    give(&loading, 1, "first", 5);
    kafka.set_committed(loading.group(), &loading.topic, 1, 99);
    let loader = loading.loader(&http).start();
    wait_until("it is said, and the other is loaded", PATIENCE, || {
        let reason = "the group stands at offset 99, and the topic ends at 5";
        let says = |path: &str| page(&listen, path).filter(|(_, said)| said.contains(reason));
        says("/readyz").is_some_and(|(status, said)| {
            status == 503 && said.starts_with("partition 1 is not loaded: ")
        }) && says("/status.json").is_some()
            && metric(&listen, "headwater_loader_partitions_waiting") == Some(1)
            && metric(&listen, "headwater_loader_partition_stops_total") == Some(1)
            && all_is_stored(&loading, &written)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let said = loader.stderr();
    assert!(!said.contains("a begun batch waits"), "{said}");
}

/// A loader that is told to stop before the group gave it anything knows nothing of what a crash left: it says so.
#[test]
fn whoever_stops_before_it_is_given_anything_says_that_it_does_not_know() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "too-early", 1);
    let nobody = format!("[\"{}\"]", free_address());
    let config = loading.config("").replace(&kafka.brokers(), &nobody);
    let loader = Loader::with(&config).envs(s3.env()).start();
    wait_until("it joins", PATIENCE, || {
        loader.stderr().contains("joining the group")
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let said = loader.stderr();
    assert!(
        said.contains("a begun batch waits to be finished"),
        "{said}"
    );
}

/// What retention deleted before it was read is counted, and the group is left for it: what was open in the other
/// partition by then is written first, long before it is due.
#[test]
fn what_is_open_is_written_first_where_the_group_is_left() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "first", 2);
    let listen = free_address();
    let open = format!("[flush]\nage = \"1h\"\n[http]\nlisten = \"{listen}\"\n");
    let mut written = give(&loading, 1, "before", 1);
    let before = loading.start();
    wait_until("the group stands somewhere", PATIENCE, || {
        all_is_stored(&loading, &written)
    });
    assert_eq!(before.sigterm_and_wait(PATIENCE).code(), Some(0));
    let loader = loading
        .loader_as("session_timeout = \"60s\"", &open)
        .start();
    written.extend(give(&loading, 0, "open", 20));
    let metric = |name: &str| metric(&listen, &format!("headwater_loader_{name}"));
    wait_until("they are read, and open", PATIENCE, || {
        metric("durable_lag_records") == Some(20) && metric("batch_memory_bytes") > Some(0)
    });
    let mut gone = 0;
    wait_until("records go before they are read", PATIENCE, || {
        loader.pause();
        // A request for records that waits at the broker is answered meanwhile, and has none of them.
        std::thread::sleep(Duration::from_secs(2));
        gone += give(&loading, 1, "gone", 10).len() as u64;
        kafka.delete_records(&loading.topic, 1);
        loader.resume();
        std::thread::sleep(Duration::from_secs(2));
        metric("rejoins_total") > Some(0)
    });
    wait_until("what was open is stored", PATIENCE, || {
        all_is_stored(&loading, &written)
    });
    wait_until("what was lost is counted", PATIENCE, || {
        metric("lost_offsets_total").is_some_and(|lost| lost > 0 && lost <= gone)
    });
    let said = loader.stderr();
    assert!(
        said.contains("were deleted by the topic's retention"),
        "{said}"
    );
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
}

/// Partitions move one by one to another loader, and the batches that are open in them are written before they do:
/// they would be due in an hour.
#[test]
fn what_is_open_is_written_first_where_a_partition_moves() {
    moved(
        "session_timeout = \"20s\"",
        "\"partition.assignment.strategy\" = \"cooperative-sticky\"",
    );
}

#[test]
fn what_is_open_is_written_first_where_the_broker_moves_a_partition() {
    moved(KIP_848, "");
}

fn moved(group: &str, options: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "moved", 2);
    let listen = free_address();
    let loader = |listen: &str| {
        let more = format!("[flush]\nage = \"1h\"\n[http]\nlisten = \"{listen}\"\n");
        let config = loading.config_as(group, &more);
        let config = config.replace("[kafka.options]", &format!("[kafka.options]\n{options}"));
        Loader::with(&config).envs(s3.env()).start()
    };
    let first = loader(&listen);
    let lines = [0, 1].map(|partition| give(&loading, partition, "open", 20));
    wait_until("all are read, and open", PATIENCE, || {
        metric(&listen, "headwater_loader_durable_lag_records") == Some(40)
            && loading.stored().is_empty()
    });
    let second = loader(&free_address());
    wait_until(
        "the one that moves has moved, and is stored",
        PATIENCE,
        || {
            let moved = second.stderr().contains("partition taken up");
            moved && lines.iter().any(|lines| all_is_stored(&loading, lines))
        },
    );
    let lost = loading.report(lines.concat()).lost;
    assert_eq!(lost.len(), 20, "the other stays open: {lost:?}");
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(second.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(lines.concat()).assert_exact();
    loading.assert_proven();
}

/// A stop meets a rebalance that takes everything away: what is under way then is stored by the one that stops, and
/// nobody does it again.
#[test]
fn what_is_open_is_written_where_a_stop_meets_a_rebalance() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "stop-meets", 2);
    let listen = free_address();
    let loader = |listen: &str| {
        let more = format!("[flush]\nage = \"1h\"\n[http]\nlisten = \"{listen}\"\n");
        let config = loading.config_as("session_timeout = \"20s\"", &more);
        // It hears soon that there is another one.
        let options = "[kafka.options]\n\"heartbeat.interval.ms\" = \"200\"";
        let config = config.replace("[kafka.options]", options);
        Loader::with(&config).envs(s3.env()).start()
    };
    let first = loader(&listen);
    let lines = [0, 1].map(|partition| give(&loading, partition, "open", 20));
    let lines = lines.concat();
    wait_until("all are read, and open", PATIENCE, || {
        metric(&listen, "headwater_loader_durable_lag_records") == Some(40)
            && metric(&listen, "headwater_loader_batch_memory_bytes") > Some(0)
    });
    // Long enough for the other to come, and shorter than what is waited for at a rebalance.
    let slow = Fault::on(Op::Put, Kind::Delay(Duration::from_millis(2500)));
    s3.fault(slow.for_keys_with("source="));
    let second = loader(&free_address());
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the other has both", PATIENCE, || {
        second.stderr().matches("partition taken up").count() >= 2
    });
    wait_until("all is stored", PATIENCE, || {
        all_is_stored(&loading, &lines)
    });
    assert_eq!(second.sigterm_and_wait(PATIENCE).code(), Some(0));
    let puts = s3.count_by_key(Op::Put, &loading.bucket);
    for partition in [0, 1] {
        let data = format!("{}+{partition}+", loading.topic);
        let of = puts.iter().filter(|(key, _)| key.contains(&data));
        assert_eq!(of.map(|(_, n)| n).sum::<usize>(), 1, "{puts:?}");
    }
    loading.report(lines).assert_exact();
    loading.assert_proven();
}

/// Its worker stands still, so it is paused; then it is given to the same loader once more.
#[test]
fn a_partition_that_was_paused_is_read_on_behind_a_rebalance() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "paused", 2);
    let listen = free_address();
    let small = format!(
        "[flush]\nage = \"300ms\"\nbytes = \"64KiB\"\n[limits]\nmemory = \"80MiB\"\n[http]\nlisten = \"{listen}\"\n"
    );
    let large = |partition: i32| -> Vec<String> {
        let line = |n: usize| format!("{n} of {partition} {}", noise(64 * 1024, n as u64 + 1));
        let lines: Vec<String> = (0..120).map(line).collect();
        let records = lines.iter().map(|line| Record {
            partition,
            value: format!("{{\"message\":\"{line}\"}}").into_bytes(),
            ..Record::default()
        });
        kafka.produce(&loading.topic, records);
        lines
    };
    s3.fault(Fault::on(Op::Put, Kind::Http503).for_keys_with("source="));
    let first = loading
        .loader_as("session_timeout = \"20s\"", &small)
        .start();
    let mut written: Vec<String> = [0, 1].into_iter().flat_map(large).collect();
    wait_until("more is fetched than there is room for", PATIENCE, || {
        metric(&listen, "headwater_loader_fetched_memory_bytes") > Some(2 << 20)
    });
    let second = loading.start();
    wait_until("both have one", PATIENCE, || {
        second.stderr().contains("partition taken up")
    });
    s3.clear_faults();
    written.extend(
        [0, 1]
            .into_iter()
            .flat_map(|partition| give(&loading, partition, "last", 3)),
    );
    wait_until("all is stored", PATIENCE, || {
        all_is_stored(&loading, &written)
    });
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(second.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}

/// Text that nothing could make smaller.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let digit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state >> 58).unwrap_or(0);
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[at])
    };
    std::iter::repeat_with(digit).take(bytes).collect()
}

/// Of more loaders than partitions one has none: it is ready to take over, and does not wait for anything.
#[test]
fn a_standby_is_ready_whoever_assigns() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    for group in [CLASSIC, KIP_848] {
        let loading = Loading::new(kafka, &s3, "spare", 1);
        let addresses = [free_address(), free_address()];
        let loaders = addresses.each_ref().map(|listen| {
            let http = format!("[http]\nlisten = \"{listen}\"\n");
            loading.loader_as(group, &http).start()
        });
        wait_until("one has it, and both are ready", PATIENCE, || {
            let has = |listen: &Address| metric(listen, "headwater_loader_partitions");
            let ready =
                |listen: &Address| page(listen, "/readyz").is_some_and(|said| said.0 == 200);
            addresses.iter().filter_map(has).sum::<u64>() == 1 && addresses.iter().all(ready)
        });
        for loader in loaders {
            assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
        }
    }
}
