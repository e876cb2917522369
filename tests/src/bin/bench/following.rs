//! Online: files to Kafka.

use headwater_tests::loading::Loading;
use headwater_tests::process::{Agent, Process};

use super::input::Input;
use super::measure::{Used, as_f64, end, rss_mib};
use super::{Bench, peers};

/// Of each program; the least counts.
const RUNS: usize = 3;

pub(crate) fn run(bench: &Bench) {
    println!(
        "\n| online: bytes a line, files | agent | kcat (floor) | of it | rsyslog | agent's peak RSS MiB, at the end | rsyslog's peak | written to flash a byte read | bytes a record in the log | of the raw lines' |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (line_bytes, lines) in [(200, 1_000_000), (1024, 250_000)] {
        for files in [1, 100] {
            let input = Input::service(&bench.folder, files, lines, line_bytes);
            let millions = as_f64(lines) / 1e6;
            let mut agent = Vec::new();
            let mut rsyslog = Vec::new();
            let mut kcat = f64::INFINITY;
            // In turns, so that a busy minute meets all of them.
            for _ in 0..RUNS {
                agent.push(of_agent(bench, &input));
                kcat = kcat.min(peers::kcat(bench, &input));
                rsyslog.push(peers::rsyslog(bench, &input));
            }
            let least = |all: &[Used]| {
                all.iter()
                    .map(|used| used.cpu)
                    .fold(f64::INFINITY, f64::min)
            };
            let peak = |all: &[Used]| all.iter().map(|used| used.rss_mib).fold(0.0, f64::max);
            let stored = agent.iter().map(|run| run.stored).max().unwrap_or(0);
            let steady = agent.iter().map(|run| run.steady_mib).fold(0.0, f64::max);
            let of_agent: Vec<Used> = agent.into_iter().map(|run| run.used).collect();
            let written = of_agent.iter().map(|used| used.written).max().unwrap_or(0);
            println!(
                "| {line_bytes}, {files} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1}, {:.1} | {:.1} | {:.5} | {:.1} | {:.2} |",
                least(&of_agent) / millions,
                kcat / millions,
                least(&of_agent) / kcat,
                least(&rsyslog) / millions,
                peak(&of_agent),
                steady,
                peak(&rsyslog),
                as_f64(written) / as_f64(input.bytes),
                as_f64(stored) / as_f64(lines),
                as_f64(stored) / as_f64(peers::raw_bytes(bench, &input)),
            );
            input.remove();
        }
    }
}

/// One run of an agent.
struct Run {
    used: Used,
    /// Resident memory when all was sent.
    steady_mib: f64,
    /// Bytes in the broker's log: what the uplink carried, requests' own heads apart.
    stored: u64,
}

fn of_agent(bench: &Bench, input: &Input) -> Run {
    let loading = Loading::new(&bench.kafka, &bench.s3, "online", 1);
    let agent = bench.agent(&loading, &input.glob(), "");
    bench.wait_for(&loading.topic, input.lines);
    let (used, steady_mib) = (Used::by(agent.pid()), rss_mib(&agent));
    end(&agent);
    Run {
        used,
        steady_mib,
        stored: bench.kafka.stored_bytes(&loading.topic),
    }
}

impl Bench {
    /// An agent with its own defaults, where the harness has short waits.
    pub(crate) fn agent(&self, loading: &Loading<'_>, glob: &str, more: &str) -> Process {
        let config = loading.agent_config(self.kafka.bootstrap(), glob, more);
        Agent::start(&config.replace("rescan = \"1s\"", "rescan = \"10s\""))
    }
}
