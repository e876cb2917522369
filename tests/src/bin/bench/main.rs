//! `make bench`: what headwater costs, beside what others cost in the same run on the same input.
//!
//! CPU seconds, memory, bytes written and wake-ups, as the kernel counts them. Machines are shared, so a
//! wall time is shown only where it is the point (a start over a large backlog), and tests never look
//! at one. CPU figures are the least of some runs: what a busy machine adds is never negative.
//!
//! - kcat is the floor: the plainest user of librdkafka, which follows nothing, accounts for nothing,
//!   and stores nothing.
//! - rsyslog (imfile, omkafka, a queue in memory) is what is there already, without a guarantee; beside
//!   the loader the same with imkafka, and Kafka Connect.
//!
//! `headwater-bench [PART…]`: all parts, or those that are named.
#![expect(clippy::print_stdout, reason = "figures are printed")]

mod backlog;
mod consumers;
mod following;
mod input;
mod loading;
mod measure;
mod outage;
mod peers;
mod quiet;
mod restart;
mod trickle;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::s3::S3;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// A part's name, and what runs it.
type Part = (&'static str, fn(&Bench));

/// The parts, in their order.
const PARTS: [Part; 7] = [
    ("following", following::run),
    ("outage", outage::run),
    ("quiet", quiet::run),
    ("trickle", trickle::run),
    ("backlog", backlog::run),
    ("loader", loading::run),
    ("restart", restart::run),
];

/// What the parts run on.
struct Bench {
    kafka: Kafka,
    s3: S3,
    /// For inputs; gone in the end.
    folder: PathBuf,
}

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let is_known = |name: &String| PARTS.iter().any(|(part, _)| part == name);
    if !named.iter().all(is_known) {
        println!(
            "headwater-bench [PART…]: {}",
            PARTS.map(|(part, _)| part).join(", ")
        );
        return ExitCode::FAILURE;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = Bench {
        kafka: Kafka::start(1),
        s3: S3::start(),
        folder: folder.path().to_owned(),
    };
    for (part, run) in PARTS {
        if named.is_empty() || named.iter().any(|name| name == part) {
            run(&bench);
        }
    }
    ExitCode::SUCCESS
}
