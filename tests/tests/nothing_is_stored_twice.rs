//! Promise 2: re-sends, crashes, rebalances, zombies and a failing S3 leave no second copy, and lose
//! nothing. Each test counts every line, and asks `audit` and `verify`.

use std::thread::sleep;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{Address, free_address};
use headwater_tests::process::{Loader, Setup};
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(60);

/// Devices that send numbered lines, now and then some of them again.
struct Fleet {
    devices: Vec<Device>,
    sent: Vec<(u64, String)>,
    written: Vec<String>,
}

impl Fleet {
    fn new(n: usize) -> Self {
        let device = |i: usize| Device::new(&format!("device-{i}"), "/var/log/app", 7 + i as u64);
        Self {
            devices: (0..n).map(device).collect(),
            sent: Vec::new(),
            written: Vec::new(),
        }
    }

    /// `n` lines from each device; every seventh round repeats the line before.
    fn lines(&mut self, n: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for round in 0..n {
            for device in &mut self.devices {
                let line = format!("line {:06} at {}", self.written.len(), device.offset());
                self.sent.push((device.offset(), line.clone()));
                records.push(device.line(&line));
                if round % 7 == 6 {
                    device.seek(device.offset() - line.len() as u64 - 1);
                    records.push(device.line(&line));
                }
                self.written.push(line);
            }
        }
        records
    }
}

fn complete(loading: &Loading, fleet: &Fleet) -> bool {
    loading
        .report(fleet.written.iter().cloned())
        .lost
        .is_empty()
}

#[test]
fn resends_are_skipped_and_each_object_is_put_once() {
    resends(CLASSIC);
}

#[test]
fn resends_are_skipped_and_each_object_is_put_once_when_the_broker_assigns() {
    resends(KIP_848);
}

fn resends(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "resends", 3).of(group);
    let mut fleet = Fleet::new(5);
    kafka.produce(&loading.topic, fleet.lines(700));
    let loader = loading.start();
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    kafka.produce(&loading.topic, fleet.lines(70));
    let after = loading.start();
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(after.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
    assert!(
        loading
            .audit()
            .stdout
            .contains("550 re-sent records skipped"),
        "{}",
        loading.audit().stdout
    );
    if !s3.is_outside() {
        let puts = s3.count_by_key(Op::Put, &loading.bucket);
        assert!(puts.values().all(|n| *n == 1 || *n == 2), "{puts:?}");
    }
}

/// Not a key: the classic protocol with another strategy.
const COOPERATIVE: &str = "cooperative-sticky";

#[test]
fn a_loader_killed_at_any_point_repeats_nothing() {
    killed_at_any_point(CLASSIC, 8);
}

#[test]
fn a_loader_killed_at_any_point_repeats_nothing_when_the_broker_assigns() {
    killed_at_any_point(&format!("{KIP_848}\ninstance = \"one\""), 4);
}

fn killed_at_any_point(group: &str, rounds: u64) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "killed", 2);
    let mut fleet = Fleet::new(12);
    let points = [
        "before-intent",
        "intent-committed",
        "intent-committed:2",
        "object-under-way",
        "object-stored",
        "object-stored:3",
        "batch-stored",
        "batch-stored:2",
        "snapshot-stored",
        "before-done",
        "before-done:2",
        "done-committed",
    ];
    // Batches of 100 records: every point is passed several times by each life.
    let config = "[flush]\nage = \"200ms\"\nrecords = 100\n";
    for point in points {
        kafka.produce(&loading.topic, fleet.lines(60));
        let loader = loading.loader_as(group, config).crash_at(point).start();
        let status = loader.wait(PATIENCE);
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "at {point}"
        );
    }
    for round in 0..rounds {
        kafka.produce(&loading.topic, fleet.lines(60));
        let loader = loading.loader_as(group, config).start();
        sleep(Duration::from_millis(300 + 397 * round % 1500));
        loader.kill9();
    }
    let last = loading.loader_as(group, config).start();
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
}

/// Their names tile as those of batches do: what was skipped is covered by the next one.
#[test]
fn an_object_for_each_record_is_there_once() {
    object_for_each_record(CLASSIC);
}

#[test]
fn an_object_for_each_record_is_there_once_when_the_broker_assigns() {
    object_for_each_record(KIP_848);
}

fn object_for_each_record(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "records", 2).of(group);
    let mut fleet = Fleet::new(5);
    let config = "path = \"\"\nlayout = \"record\"\n[flush]\nage = \"300ms\"\nobjects = 40\n";
    // It is said what that costs, before it costs it; where it costs nothing, nothing is said.
    let price = "a million records are a million PUTs, 5.00 dollars at 0.005 for 1000";
    for (config, costs) in [(config, true), ("", false)] {
        let checked = loading.loader(config).run("check", &[]);
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        assert_eq!(checked.stdout.contains(price), costs, "{}", checked.stdout);
    }
    for point in ["intent-committed", "object-stored:9", "batch-stored"] {
        kafka.produce(&loading.topic, fleet.lines(21));
        let status = loading
            .loader(config)
            .crash_at(point)
            .start()
            .wait(PATIENCE);
        assert_eq!(status.code(), None, "{point} was never reached");
    }
    let last = loading.loader(config).start();
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
    assert_eq!(
        s3.keys(&loading.bucket, "data/records").len(),
        fleet.written.len()
    );
    let stored = s3.keys(&loading.bucket, "data/records");
    s3.lose(&loading.bucket, &stored[stored.len() / 2]);
    let verify = loading.verify();
    assert_eq!(verify.code, Some(1));
    assert!(verify.stdout.contains("hole: ["), "{}", verify.stdout);
}

/// A session of ten minutes: who waited for it would not be done within the test's patience.
#[test]
fn a_static_member_goes_on_at_once_after_it_was_killed() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "static", 2);
    let mut fleet = Fleet::new(4);
    let group = "instance = \"loader-0\"\nsession_timeout = \"10m\"";
    let config = "[flush]\nage = \"200ms\"\n";
    for _ in 0..3 {
        kafka.produce(&loading.topic, fleet.lines(60));
        let loader = loading.loader_as(group, config).start();
        wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
        loader.kill9();
    }
    let last = loading.loader_as(group, config).start();
    kafka.produce(&loading.topic, fleet.lines(60));
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
}

#[test]
fn what_a_transaction_aborted_is_never_stored() {
    aborted(CLASSIC);
}

#[test]
fn what_a_transaction_aborted_is_never_stored_when_the_broker_assigns() {
    aborted(KIP_848);
}

fn aborted(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "aborted", 1).of(group);
    let mut fleet = Fleet::new(2);
    let mut aborted = Fleet::new(1);
    kafka.produce(&loading.topic, fleet.lines(20));
    kafka.produce_aborted(&loading.topic, aborted.lines(20));
    kafka.produce(&loading.topic, fleet.lines(20));
    kafka.produce_aborted(&loading.topic, aborted.lines(20));
    let loader = loading.start();
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
}

#[test]
fn a_zombie_that_comes_back_writes_nothing_of_its_own() {
    zombie_that_comes_back(CLASSIC, 3);
}

#[test]
fn a_zombie_that_comes_back_writes_nothing_of_its_own_when_the_broker_assigns() {
    zombie_that_comes_back(KIP_848, 1);
}

/// Partitions move one by one, and those that stay are read on.
#[test]
fn a_zombie_that_comes_back_writes_nothing_of_its_own_when_partitions_move_one_by_one() {
    zombie_that_comes_back(COOPERATIVE, 2);
}

/// A loader of a group of this kind.
fn loader_of(loading: &Loading, group: &str, more: &str) -> Setup {
    let config = match group {
        COOPERATIVE => loading.config_as(CLASSIC, more).replace(
            "[kafka.options]",
            "[kafka.options]\n\"partition.assignment.strategy\" = \"cooperative-sticky\"",
        ),
        group => loading.config_as(group, more),
    };
    Loader::with(&config).envs(loading.s3.env())
}

fn zombie_that_comes_back(group: &str, rounds: usize) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "zombie", 4);
    let mut fleet = Fleet::new(8);
    kafka.produce(&loading.topic, fleet.lines(200));
    let config = "[flush]\nage = \"700ms\"\n";
    let first = loader_of(&loading, group, config).start();
    wait_until("the first has begun", PATIENCE, || {
        !loading.stored().is_empty()
    });
    let second = loader_of(&loading, group, config).start();
    for _ in 0..rounds {
        kafka.produce(&loading.topic, fleet.lines(100));
        // It sleeps past its session with batches open; the other takes over and goes on.
        sleep(Duration::from_millis(400));
        first.pause();
        kafka.produce(&loading.topic, fleet.lines(100));
        wait_until("the other has taken over", PATIENCE, || {
            complete(&loading, &fleet)
        });
        kafka.produce(&loading.topic, fleet.lines(50));
        first.resume();
        sleep(Duration::from_secs(3));
    }
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(second.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(first.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
}

#[test]
fn an_s3_that_fails_for_a_while_loses_and_repeats_nothing() {
    s3_fails_for_a_while(CLASSIC);
}

#[test]
fn an_s3_that_fails_for_a_while_loses_and_repeats_nothing_when_the_broker_assigns() {
    s3_fails_for_a_while(KIP_848);
}

fn s3_fails_for_a_while(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    if s3.is_outside() {
        panic!("faults need the harness's own S3: S3::start gives it");
    }
    let loading = Loading::new(kafka, &s3, "s3faults", 2);
    let mut fleet = Fleet::new(4);
    let loader = loading
        .loader_as(group, "[flush]\nage = \"300ms\"\n")
        .start();
    kafka.produce(&loading.topic, fleet.lines(10));
    wait_until("it is at work", PATIENCE, || complete(&loading, &fleet));
    for kind in [
        Kind::Http503,
        Kind::SlowDown,
        Kind::Conflict409,
        Kind::HangUpAfterCommit,
        Kind::HangUp,
        Kind::Http500,
        Kind::Denied,
    ] {
        s3.fault(Fault::on(Op::Put, kind).times(3));
        kafka.produce(&loading.topic, fleet.lines(60));
        wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    }
    assert!(s3.faults_met() > 10, "the faults were met");
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
}

/// A stop takes `limits.stop_grace` at most, though what is open can go nowhere; whoever comes next has it.
#[test]
fn a_stop_that_s3_holds_up_ends_all_the_same_and_loses_nothing() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "held-up", 1);
    let mut fleet = Fleet::new(3);
    let config = "[limits]\nstop_grace = \"2s\"\n[flush]\nage = \"200ms\"\n";
    let loader = loading.loader(config).start();
    kafka.produce(&loading.topic, fleet.lines(60));
    wait_until("the first are stored", PATIENCE, || {
        complete(&loading, &fleet)
    });
    s3.fault(Fault::on(Op::Put, Kind::Timeout));
    kafka.produce(&loading.topic, fleet.lines(60));
    wait_until("an upload hangs", PATIENCE, || s3.faults_met() > 0);
    let status = loader.sigterm_and_wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "{}", loader.stderr());
    assert!(
        loader.stderr().contains("the stop took too long"),
        "{}",
        loader.stderr()
    );
    s3.clear_faults();
    let loader = loading.loader(config).start();
    wait_until("all is stored", PATIENCE, || complete(&loading, &fleet));
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
}

/// A batch that stays open for longer than the group lets a member go without a poll: it is no reason to take its
/// partition away, though there is a standby that waits for one.
#[test]
fn a_batch_that_is_open_for_long_keeps_its_partition_beside_a_standby() {
    const POLLS: &str = "\"max.poll.interval.ms\" = \"6000\"\n";
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "standby", 1);
    let mut fleet = Fleet::new(1);
    let addresses = [free_address(), free_address()];
    let start = |listen: &str| {
        let more = format!("[flush]\nage = \"1h\"\n[http]\nlisten = \"{listen}\"\n");
        let config = loading.config_as(CLASSIC, &more);
        let config = config.replace("[kafka.options]\n", &format!("[kafka.options]\n{POLLS}"));
        Loader::with(&config).envs(s3.env()).start()
    };
    let of = |at: usize, name: &str| metric(&addresses[at], &format!("headwater_loader_{name}"));
    let both = addresses.each_ref().map(|listen| start(listen));
    // Which of the two has it is the group's choice, made once both are in it.
    wait_until("one has it, and the other is there", PATIENCE, || {
        let is_ready = |listen: &Address| page(listen, "/readyz").is_some_and(|said| said.0 == 200);
        let has = [0, 1].map(|at| of(at, "partitions").unwrap_or(0));
        has.iter().sum::<u64>() == 1 && addresses.iter().all(is_ready)
    });
    let whose = [of(0, "partitions"), of(1, "partitions")];
    let (at, other) = if whose[0] == Some(1) { (0, 1) } else { (1, 0) };
    let rejoins = of(at, "rejoins_total");
    kafka.produce(&loading.topic, fleet.lines(1));
    wait_until("its batch is open", PATIENCE, || {
        of(at, "batch_memory_bytes").is_some_and(|held| held > 0)
    });
    // Three times what a member may go without a poll, and a record now and then.
    for _ in 0..18 {
        sleep(Duration::from_secs(1));
        kafka.produce(&loading.topic, fleet.lines(1));
        let now = [of(0, "partitions"), of(1, "partitions")];
        assert_eq!(now, whose, "it was taken away");
    }
    assert_eq!(of(at, "rejoins_total"), rejoins);
    // It goes first: where a standby goes, the group is made anew, and what is open is read again.
    assert_eq!(both[at].sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(both[other].sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(fleet.written.clone()).assert_exact();
    loading.assert_proven();
    let stored = loading.stored();
    let mut objects: Vec<&str> = stored.iter().map(|row| row.object.as_str()).collect();
    objects.dedup();
    assert_eq!(
        objects.len(),
        1,
        "its batch was closed in the middle: {objects:?}"
    );
}
