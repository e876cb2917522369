//! What is done to records is done by more than one thread: the kernel's account of each thread's CPU time says so.

use std::fs;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::process::Process;
use headwater_tests::s3::S3;

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 4;
const LINES: usize = 40_000;

/// Clock ticks in user mode of each of the runtime's threads, most first: steps and encoding run there.
fn ticks(loader: &Process) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", loader.pid())).expect("its threads");
    let mut ticks: Vec<u64> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok())
        .filter_map(|stat| {
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            // utime is field 14 of all.
            let ticks = rest.split_whitespace().nth(11)?.parse().ok()?;
            name.starts_with("tokio").then_some(ticks)
        })
        .collect();
    ticks.sort_unstable_by_key(|ticks| std::cmp::Reverse(*ticks));
    ticks
}

#[test]
fn partitions_are_transformed_by_more_than_one_thread() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(cores > 1, "there has to be more than one core");
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "cores", PARTITIONS);
    for partition in 0..PARTITIONS {
        let mut device = Device::new(&format!("device-{partition}"), "/var/log/app", 7);
        let lines = (0..LINES).map(|n| {
            let mut record = device.line(&format!(
                "level=info n={n} took={}ms user=u-{}",
                n % 977,
                n % 53
            ));
            record.partition = partition;
            record
        });
        kafka.produce(&loading.topic, lines);
    }
    let config = "[flush]\nage = \"1s\"\n[[transform]]\nstep = \"parse\"\nfield = \"message\"\nformat = \"logfmt\"\n\
                  [[transform]]\nstep = \"vrl\"\nsource = '.n = to_int!(.n) * 2; .user = upcase!(.user)'\n";
    let loader = loading.loader(config).start();
    let all = i64::from(PARTITIONS) * i64::try_from(LINES).expect("a number of lines");
    wait_until("all is committed", PATIENCE, || {
        let committed = kafka.committed(loading.group(), &loading.topic);
        committed.iter().filter_map(|held| held.offset).sum::<i64>() >= all
    });
    let ticks = ticks(&loader);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let most = ticks[0];
    assert!(most >= 20, "there was too little to do: {ticks:?}");
    assert!(ticks[1] >= most / 4, "one thread did it all: {ticks:?}");
    loading.assert_proven();
}
