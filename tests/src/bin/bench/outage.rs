//! Offline into the spool, and the way out of it; beside rsyslog with its queue on disk.

use std::time::Duration;

use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;

use super::input::Input;
use super::measure::{Used, as_f64, end};
use super::peers::{Queue, start_rsyslog};
use super::{Bench, PATIENCE, peers};

pub(crate) fn run(bench: &Bench) {
    println!(
        "\n| outage: who, bytes a line, files | offline, to disk | draining it | peak RSS MiB offline, draining | written to flash a byte read, offline, draining |"
    );
    println!("|---|---|---|---|---|");
    for (line_bytes, lines) in [(200, 1_000_000), (1024, 250_000)] {
        for files in [1, 100] {
            let input = Input::service(&bench.folder, files, lines, line_bytes);
            print(
                &format!("agent, {line_bytes}, {files}"),
                &input,
                &of_agent(bench, &input),
            );
            print(
                &format!("rsyslog, {line_bytes}, {files}"),
                &input,
                &of_rsyslog(bench, &input),
            );
            input.remove();
        }
    }
}

/// What was used until all was on disk, and until all was sent.
struct Outage {
    offline: Used,
    drained: Used,
}

fn of_agent(bench: &Bench, input: &Input) -> Outage {
    let loading = Loading::new(&bench.kafka, &bench.s3, "outage", 1);
    let (agent, offline) = bench.kafka.while_paused(|| {
        let agent = bench.agent(&loading, &input.glob(), "");
        let offline = settled(agent.pid());
        (agent, offline)
    });
    let drained = bench.drained(agent.pid(), &loading.topic, input.lines);
    end(&agent);
    Outage { offline, drained }
}

fn of_rsyslog(bench: &Bench, input: &Input) -> Outage {
    let topic = peers::topic(bench);
    let (rsyslog, offline) = bench.kafka.while_paused(|| {
        let rsyslog = start_rsyslog(bench, &topic, input, Queue::Disk);
        let offline = settled(rsyslog.pid());
        (rsyslog, offline)
    });
    let drained = bench.drained(rsyslog.pid(), &topic, input.lines);
    Outage { offline, drained }
}

/// What a process has used once it writes nothing more.
fn settled(pid: u32) -> Used {
    let mut last = 0;
    wait_until("all is on disk", PATIENCE, || {
        let written = Used::by(pid).written;
        let is_settled = written == last && written > 0;
        last = written;
        std::thread::sleep(Duration::from_secs(5));
        is_settled
    });
    Used::by(pid)
}

fn print(who: &str, input: &Input, Outage { offline, drained }: &Outage) {
    let millions = as_f64(input.lines) / 1e6;
    println!(
        "| {who} | {:.2} | {:.2} | {:.1}, {:.1} | {:.3}, {:.3} |",
        offline.cpu / millions,
        (drained.cpu - offline.cpu) / millions,
        offline.rss_mib,
        drained.rss_mib,
        as_f64(offline.written) / as_f64(input.bytes),
        as_f64(drained.written - offline.written) / as_f64(input.bytes),
    );
}

impl Bench {
    /// A broker that was paused has to find itself again before it answers for its topics.
    pub(crate) fn wait_for_broker(&self) {
        std::thread::sleep(Duration::from_secs(3));
    }

    /// What a process has used once its topic holds so many records, and its files have shrunk.
    fn drained(&self, pid: u32, topic: &str, records: u64) -> Used {
        self.wait_for_broker();
        self.wait_for(topic, records);
        std::thread::sleep(Duration::from_secs(5));
        Used::by(pid)
    }
}
