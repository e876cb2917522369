//! S3 takes longer for an object than the group lets a member go without a poll. It is polled all the same: the
//! member keeps its partition beside a standby that waits for one, and the batch is stored once.

use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::{Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{Address, free_address};
use headwater_tests::process::Loader;
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_put_that_hangs_for_longer_than_the_poll_interval() {
    hangs("session_timeout = \"2s\"");
}

#[test]
fn a_put_that_hangs_for_longer_than_the_poll_interval_when_the_broker_assigns() {
    hangs("protocol = \"consumer\"");
}

fn hangs(group: &str) {
    const POLLS: &str = "[kafka.options]\n\"max.poll.interval.ms\" = \"6000\"\n";
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "hangs", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 7);
    let mut written = Vec::new();
    let mut give = |n: usize| {
        let lines: Vec<String> = (0..n)
            .map(|n| format!("line {} {n}", device.offset()))
            .collect();
        kafka.produce(&loading.topic, lines.iter().map(|line| device.line(line)));
        written.extend(lines);
        written.clone()
    };
    let addresses = [free_address(), free_address()];
    let both = addresses.each_ref().map(|listen| {
        let more = format!(
            "[output.s3]\ntimeout = \"13s\"\n[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n"
        );
        let config = loading.config_as(group, &more).replace("[kafka.options]\n", POLLS);
        Loader::with(&config).envs(s3.env()).start()
    });
    let of = |at: usize, name: &str| metric(&addresses[at], &format!("headwater_loader_{name}"));
    let whose = || [of(0, "partitions"), of(1, "partitions")];
    wait_until("one has it, and the other is there", PATIENCE, || {
        let is_ready = |listen: &Address| page(listen, "/readyz").is_some_and(|said| said.0 == 200);
        let has = whose().map(|has| has.unwrap_or(0));
        has.iter().sum::<u64>() == 1 && addresses.iter().all(is_ready)
    });
    let has = whose();
    let at = usize::from(has[0] != Some(1));
    let rejoins = of(at, "rejoins_total");
    // No answer until the loader gives up waiting and asks again; and one that comes late.
    for kind in [Kind::Timeout, Kind::Delay(Duration::from_secs(9))] {
        let met = s3.faults_met();
        s3.fault(
            Fault::on(Op::Put, kind)
                .for_keys_with("data/source=")
                .times(1),
        );
        give(30);
        wait_until("an upload hangs", PATIENCE, || s3.faults_met() > met);
        // It is polled for what comes meanwhile.
        let lines = give(30);
        wait_until("all is stored", PATIENCE, || {
            assert_eq!(whose(), has, "it was taken away");
            loading.report(lines.clone()).lost.is_empty()
        });
    }
    assert_eq!(of(at, "rejoins_total"), rejoins);
    assert!(
        of(at, "output_retries_total") > Some(0),
        "the one without an answer was tried again"
    );
    for loader in [&both[at], &both[1 - at]] {
        assert!(
            !loader.stderr().contains("max.poll.interval.ms"),
            "{}",
            loader.stderr()
        );
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    }
    loading.report(give(0)).assert_exact();
    loading.assert_proven();
}
