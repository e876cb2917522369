//! Starts over a spool of gigabytes: `BACKLOG_GIB=10` for so much of input, 4 without; `BACKLOG_MIB=64`
//! for less, to see what does not depend on it.

use std::path::Path;
use std::time::Duration;

use headwater_tests::clock;
use headwater_tests::kafka::{Record, Tip};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{self, unique};
use headwater_tests::process::{Process, Setup};

use super::input::Input;
use super::measure::{Used, as_f64, end, rss_mib};
use super::{Bench, PATIENCE};

const GIB: u64 = 1 << 30;

/// How much of it is sent before memory is looked at.
const SENT: i64 = 200_000;

/// How often it is started; each time after SIGKILL.
const STARTS: usize = 5;

pub(crate) fn run(bench: &Bench) {
    let asked = |name| outside::var(name).map(|n| n.parse::<u64>().expect("a number"));
    let bytes = match (asked("BACKLOG_GIB"), asked("BACKLOG_MIB")) {
        (_, Some(mib)) => mib << 20,
        (gib, None) => gib.unwrap_or(4) * GIB,
    };
    let template = Input::random(&bench.folder, bytes.min(GIB));
    let loading = Loading::new(&bench.kafka, &bench.s3, "backlog", 1);
    let agent = filled(bench, &loading, &template, bytes.div_ceil(GIB));
    let at_most = Used::by(agent.pid());
    let stopped = agent.stopped();
    // What the tests make shorter is as it is released.
    let config = std::fs::read_to_string(stopped.dir().join("config.toml")).expect("it is ours");
    let is_waited = |line: &&str| !line.contains("backoff") && !line.contains("timeout.ms");
    stopped.set_config(
        &config
            .lines()
            .filter(is_waited)
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let spool = spool_bytes(stopped.dir());
    bench.wait_for_broker();
    // A broker gives its first producer an identity half a second later than the others.
    let warm = unique("warm");
    bench.kafka.create_topic(&warm, 1, &[]);
    bench.kafka.produce(&warm, [Record::default()]);
    let (mut agent, first) = started(bench, &loading, stopped);
    let mut took = vec![first];
    while took.len() < STARTS {
        let (again, next) = started(bench, &loading, agent.stopped());
        agent = again;
        took.push(next);
    }
    let depth = bench.kafka.depth(&loading.topic);
    let most = (bytes / 1024).min(SENT.cast_unsigned()).cast_signed();
    wait_until("many arrive", PATIENCE, || {
        bench.kafka.depth(&loading.topic) >= most.max(depth)
    });
    let took: Vec<String> = took.iter().map(|took| format!("{took:.2}")).collect();
    println!(
        "\n| backlog, GiB in the spool | killed, started, first record in the topic, s | peak RSS MiB while it fills | after the start, {most} records sent | now |"
    );
    println!("|---|---|---|---|---|");
    println!(
        "| {:.2} | {} | {:.1} | {:.1} | {:.1} |",
        as_f64(spool) / as_f64(GIB),
        took.join(", "),
        at_most.rss_mib,
        Used::by(agent.pid()).rss_mib,
        rss_mib(&agent)
    );
    println!(
        "load: {}",
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default()
    );
    end(&agent);
    template.remove();
}

/// An agent that was without a broker while it read `copies` of a file.
fn filled(bench: &Bench, loading: &Loading<'_>, template: &Input, copies: u64) -> Process {
    let spool = "[spool]\nmax_bytes = \"64GiB\"\nfree_bytes_min = \"8GiB\"\n";
    bench.kafka.while_paused(|| {
        let glob = format!("{}/again-*/*.log", bench.folder.display());
        let agent = bench.agent(loading, &glob, spool);
        let records = || {
            let status = agent.ask("status", &["--json"]).stdout;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
            status["counters"]["records"].as_u64().unwrap_or(0)
        };
        // A file at a time, each gone once it is read: the disk holds the backlog once.
        let mut lines = 0;
        for nth in 0..copies {
            let input = template.again(nth);
            lines += input.lines;
            wait_until("the spool has it all", PATIENCE, || {
                std::thread::sleep(Duration::from_secs(2));
                records() >= lines
            });
            input.remove();
        }
        std::thread::sleep(Duration::from_secs(5));
        agent
    })
}

fn spool_bytes(folder: &Path) -> u64 {
    let spool = std::fs::metadata(folder.join("state/spool.db"));
    spool.expect("there is one").len()
}

/// Starts it, and says how many seconds later the next record was in the topic.
fn started(bench: &Bench, loading: &Loading<'_>, stopped: Setup) -> (Process, f64) {
    // What it had under way when it was killed has come by then.
    std::thread::sleep(Duration::from_secs(1));
    let tip = Tip::of(&bench.kafka, &loading.topic);
    let begin = clock::now();
    let agent = stopped.start();
    tip.wait_for_next(PATIENCE);
    (agent, begin.elapsed().as_secs_f64())
}
