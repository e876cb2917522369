//! `make bench`: what headwater costs, beside the floor of the same run.
//!
//! CPU seconds, peak memory and bytes written, as the kernel counts them; never a wall time, since
//! machines are shared. The floor is kcat, the plainest user of the same librdkafka: it follows
//! nothing, accounts for nothing, and stores nothing.
#![expect(clippy::print_stdout, reason = "figures are printed")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;
use headwater_tests::process::{Agent, Process};
use headwater_tests::s3::S3;

const PATIENCE: Duration = Duration::from_secs(600);
const LINES: u64 = 1_000_000;
const OFFLINE_LINES: u64 = 200_000;
const SMALL: u64 = 2_000_000;

struct Bench {
    kafka: Kafka,
    s3: S3,
    folder: PathBuf,
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = Bench {
        kafka: Kafka::start(1),
        s3: S3::start(),
        folder: folder.path().to_owned(),
    };
    println!("| what | CPU s per M lines | floor (kcat) | ratio | peak RSS MiB | other |");
    println!("|---|---|---|---|---|---|");
    // All of it, or the parts that are named.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if wanted("online") {
        let topic = bench.agent_online();
        bench.loader("the same records", &topic, LINES, "");
    }
    if wanted("loader") {
        bench.loader_small();
    }
    if wanted("offline") {
        bench.agent_offline();
    }
    if wanted("idle") {
        bench.agent_idle();
    }
}

impl Bench {
    /// A log as services write them: what changes from line to line is small, as in life, since
    /// compression decides what uplink and flash have to carry.
    fn file(&self, name: &str, lines: u64) -> (PathBuf, u64) {
        let path = self.folder.join(name);
        let mut out = BufWriter::new(File::create(&path).expect("a new file"));
        let mut state = 1_u64;
        for n in 0..lines {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let r = state >> 33;
            writeln!(
                out,
                "2026-11-24T{:02}:{:02}:{:02}.{:03}Z gateway-7 telemetryd[{}]: request id={n} from=10.0.{}.{} \
                 method=GET path=/api/v1/meters/{}/readings status={} bytes={} took={}ms upstream=collector-{}",
                n / 3_600_000 % 24, n / 60_000 % 60, n / 1000 % 60, n % 1000, 800 + r % 4, r % 16, r / 16 % 256,
                r % 5000, [200, 200, 200, 304, 404][usize::try_from(r % 5).unwrap_or(0)], r % 4096, r % 250, r % 3
            )
            .expect("there is room for it");
        }
        out.flush().expect("there is room for it");
        let bytes = fs::metadata(&path).expect("it was written").len();
        (path, bytes)
    }

    fn agent(&self, loading: &Loading<'_>, path: &Path, more: &str) -> Process {
        // The harness looks for new files every second; here it is as by default.
        let config =
            loading.agent_config(self.kafka.bootstrap(), &path.display().to_string(), more);
        Agent::start(&config.replace("rescan = \"1s\"", "rescan = \"10s\""))
    }

    fn agent_online(&self) -> String {
        let (path, bytes) = self.file("online.log", LINES);
        let loading = Loading::new(&self.kafka, &self.s3, "online", 1);
        let agent = self.agent(&loading, &path, "");
        wait_until("every line is in the topic", PATIENCE, || {
            self.kafka.depth(&loading.topic) >= i64::try_from(LINES).unwrap_or(i64::MAX)
        });
        let (cpu, rss, written) = (
            agent.cpu_seconds(),
            agent.rss_kib_max(),
            agent.io_write_bytes(),
        );
        end(&agent);
        let floor_topic = unique("floor");
        self.kafka.create_topic(&floor_topic, 1, &[]);
        let floor = cpu_of(&format!(
            "kcat -P -b {} -t {floor_topic} -l -X enable.idempotence=true -X compression.codec=zstd \
             -X queue.buffering.max.messages=10000 -X queue.buffering.max.kbytes=4096 {}",
            self.kafka.bootstrap(),
            path.display()
        ));
        let millions = as_f64(LINES) / 1e6;
        println!(
            "| agent, online, {} B a line | {:.2} | {:.2} | {:.2} | {:.1} | {:.4} bytes written to flash a byte read |",
            bytes / LINES,
            cpu / millions,
            floor / millions,
            cpu / floor,
            mib(rss),
            as_f64(written) / as_f64(bytes)
        );
        loading.topic
    }

    /// Records as sensors write them, over 16 partitions, in each format; and 500 paths.
    fn loader_small(&self) {
        let topic = unique("small");
        self.kafka.create_topic(&topic, 16, &[]);
        let record = |n: u64| Record {
            partition: i32::try_from(n % 16).unwrap_or(0),
            value: format!(
                r#"{{"id":{n},"category":"c{}","value":{}.{},"ts":"2026-11-24T08:{:02}:{:02}Z"}}"#,
                n * 7 % 500,
                n % 100,
                n % 10,
                n / 60 % 60,
                n % 60
            )
            .into_bytes(),
            ..Record::default()
        };
        self.kafka.produce(&topic, (0..SMALL).map(record));
        let columns = "[[output.column]]\nname='id'\ntype='int'\n[[output.column]]\nname='category'\ntype='string'\n\
                       [[output.column]]\nname='value'\ntype='float'\n[[output.column]]\nname='ts'\ntype='timestamp'\n";
        let add = "[[transform]]\nstep='rename'\nfrom='id'\nto='n'\n[[transform]]\nstep='add'\nfield='site'\nvalue='Ulm'\n";
        for (what, config) in [
            ("to NDJSON.zst", "path = ''\n".to_owned()),
            (
                "to NDJSON.gz",
                "path = ''\ncompression = 'gzip'\n".to_owned(),
            ),
            (
                "two fields changed, to NDJSON.zst",
                format!("path = ''\n{add}"),
            ),
            (
                "to Parquet",
                format!("path = ''\nformat = 'parquet'\n{columns}"),
            ),
            (
                "500 paths, to NDJSON.zst",
                "path = 'category={category}'\n".to_owned(),
            ),
        ] {
            self.loader(what, &topic, SMALL, &config);
        }
    }

    fn loader(&self, what: &str, topic: &str, records: u64, config: &str) {
        let mut loading = Loading::new(&self.kafka, &self.s3, "load", 1);
        topic.clone_into(&mut loading.topic);
        let loader = loading.loader(config).start();
        wait_until("every row is in S3", PATIENCE, || {
            self.kafka
                .committed(loading.group(), topic)
                .iter()
                .filter_map(|committed| committed.offset)
                .sum::<i64>()
                >= i64::try_from(records).unwrap_or(i64::MAX)
        });
        let (cpu, rss) = (loader.cpu_seconds(), loader.rss_kib_max());
        end(&loader);
        let floor = cpu_of(&format!(
            "kcat -C -b {} -t {topic} -o beginning -e -q -X fetch.wait.max.ms=200 > /dev/null",
            self.kafka.bootstrap()
        ));
        let value_bytes = as_f64(number(&loader.stderr(), " bytes="));
        let millions = as_f64(records) / 1e6;
        println!(
            "| loader, {what} | {:.2} | {:.2} | {:.2} | {:.1} | about {:.0} MB/s a core |",
            cpu / millions,
            floor / millions,
            cpu / floor,
            mib(rss),
            value_bytes / 1e6 / cpu
        );
    }

    fn agent_offline(&self) {
        let (path, bytes) = self.file("offline.log", OFFLINE_LINES);
        let loading = Loading::new(&self.kafka, &self.s3, "offline", 1);
        let agent = self.kafka.while_paused(|| {
            let agent = self.agent(&loading, &path, "");
            let mut last = 0;
            wait_until("the spool has it all", PATIENCE, || {
                let written = agent.io_write_bytes();
                let settled = written == last && written > 0;
                last = written;
                std::thread::sleep(Duration::from_secs(5));
                settled
            });
            agent
        });
        let (cpu, written) = (agent.cpu_seconds(), agent.io_write_bytes());
        let millions = as_f64(OFFLINE_LINES) / 1e6;
        println!(
            "| agent, offline, into the spool | {:.2} | | | {:.1} | {:.3} bytes written to flash a byte read |",
            cpu / millions,
            mib(agent.rss_kib_max()),
            as_f64(written) / as_f64(bytes)
        );
        // The broker has to find itself again before it answers for its topics.
        std::thread::sleep(Duration::from_secs(3));
        wait_until("the spool is drained", PATIENCE, || {
            self.kafka.depth(&loading.topic) >= i64::try_from(OFFLINE_LINES).unwrap_or(i64::MAX)
        });
        std::thread::sleep(Duration::from_secs(3));
        println!(
            "| agent, draining the spool | {:.2} | | | {:.1} | |",
            (agent.cpu_seconds() - cpu) / millions,
            mib(agent.rss_kib_max())
        );
        end(&agent);
    }

    fn agent_idle(&self) {
        let loading = Loading::new(&self.kafka, &self.s3, "idle", 1);
        let (path, _) = self.file("idle.log", 10);
        let agent = self.agent(&loading, &path, "");
        std::thread::sleep(Duration::from_secs(10));
        let (cpu, switches) = (agent.cpu_seconds(), wake_ups(&agent));
        std::thread::sleep(Duration::from_secs(20));
        println!(
            "| agent, idle | | | | {:.1} | {:.2} wake-ups a second, {:.4} CPU s a minute |",
            mib(agent.rss_kib()),
            as_f64(wake_ups(&agent) - switches) / 20.0,
            (agent.cpu_seconds() - cpu) * 3.0
        );
        end(&agent);
    }
}

fn end(process: &Process) {
    assert_eq!(process.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// How often its threads were woken, as the kernel counts it.
fn wake_ups(process: &Process) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).expect("it runs");
    let status = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    status
        .map(|text| number(&text, "\nvoluntary_ctxt_switches:"))
        .sum()
}

/// The number behind the last `name` in a text.
fn number(text: &str, name: &str) -> u64 {
    let rest = text
        .rsplit_once(name)
        .map_or("", |(_, rest)| rest)
        .trim_start();
    rest.split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or(0)
}

/// User and system time of a shell command, seconds.
fn cpu_of(command: &str) -> f64 {
    let timed = format!("TIMEFORMAT='%U %S'; time {command}");
    let output = Command::new("bash")
        .args(["-c", &timed])
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {text}");
    let last = text.lines().last().unwrap_or_default();
    last.split(' ')
        .map(|part| part.parse::<f64>().expect("bash prints two numbers"))
        .sum()
}

fn mib(kib: u64) -> f64 {
    as_f64(kib) / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
fn as_f64(n: u64) -> f64 {
    n as f64
}
