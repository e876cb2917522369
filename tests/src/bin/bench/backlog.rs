//! A start over a spool of gigabytes: `BACKLOG_GIB=10` for so much of input, 4 without.

use std::time::Duration;

use headwater_tests::clock;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside;

use super::input::Input;
use super::measure::{Used, as_f64, end, rss_mib};
use super::{Bench, PATIENCE};

/// GiB of the input, where nobody says how much; the spool holds about three quarters of it.
const GIB: u64 = 4;

/// How much of it is sent before memory is looked at.
const SENT: i64 = 200_000;

pub(crate) fn run(bench: &Bench) {
    let gib = outside::var("BACKLOG_GIB").map_or(GIB, |gib| gib.parse().expect("a number"));
    let template = Input::random(&bench.folder, 1 << 30);
    let loading = Loading::new(&bench.kafka, &bench.s3, "backlog", 1);
    let spool = "[spool]\nmax_bytes = \"64GiB\"\nfree_bytes_min = \"8GiB\"\n";
    let agent = bench.kafka.while_paused(|| {
        let glob = format!("{}/again-*/*.log", bench.folder.display());
        let agent = bench.agent(&loading, &glob, spool);
        let records = || {
            let status = agent.ask("status", &["--json"]).stdout;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
            status["counters"]["records"].as_u64().unwrap_or(0)
        };
        // A file at a time, each gone once it is read: the disk holds the backlog once.
        let mut lines = 0;
        for nth in 0..gib {
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
    });
    let filled = Used::by(agent.pid());
    let stopped = agent.stopped();
    let spool = std::fs::metadata(stopped.dir().join("state/spool.db")).expect("there is one");
    bench.wait_for_broker();
    let begin = clock::now();
    let agent = stopped.start();
    wait_until("a record arrives", PATIENCE, || {
        bench.kafka.depth(&loading.topic) > 0
    });
    let first = begin.elapsed();
    wait_until("many arrive", PATIENCE, || {
        bench.kafka.depth(&loading.topic) >= SENT
    });
    println!(
        "\n| backlog, GiB in the spool | killed, started, first record in the topic | peak RSS MiB while it fills | after the start, {SENT} records sent | now |"
    );
    println!("|---|---|---|---|---|");
    println!(
        "| {:.1} | {:.2} s | {:.1} | {:.1} | {:.1} |",
        as_f64(spool.len()) / as_f64(1 << 30),
        first.as_secs_f64(),
        filled.rss_mib,
        Used::by(agent.pid()).rss_mib,
        rss_mib(&agent)
    );
    end(&agent);
    template.remove();
}
