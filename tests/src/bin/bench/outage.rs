//! Offline into the spool, and the way out of it.

use std::time::Duration;

use headwater_tests::loading::Loading;
use headwater_tests::oracle::wait_until;

use super::input::Input;
use super::measure::{Used, as_f64, end, rss_mib};
use super::{Bench, PATIENCE};

pub(crate) fn run(bench: &Bench) {
    println!(
        "\n| outage: bytes a line | offline, into the spool | draining it | peak RSS MiB offline, draining, at the end | written to flash a byte read, offline, draining |"
    );
    println!("|---|---|---|---|---|");
    for (line_bytes, lines) in [(200, 1_000_000), (1024, 250_000)] {
        let input = Input::service(&bench.folder, 1, lines, line_bytes);
        let loading = Loading::new(&bench.kafka, &bench.s3, "outage", 1);
        let agent = bench.kafka.while_paused(|| {
            let agent = bench.agent(&loading, &input.glob(), "");
            let mut last = 0;
            wait_until("the spool has it all", PATIENCE, || {
                let written = agent.io_write_bytes();
                let is_settled = written == last && written > 0;
                last = written;
                std::thread::sleep(Duration::from_secs(5));
                is_settled
            });
            agent
        });
        let offline = Used::by(agent.pid());
        bench.wait_for_broker();
        bench.wait_for(&loading.topic, lines);
        // The spool's rows go, and its file shrinks.
        std::thread::sleep(Duration::from_secs(5));
        let drained = Used::by(agent.pid());
        let millions = as_f64(lines) / 1e6;
        println!(
            "| {line_bytes} | {:.2} | {:.2} | {:.1}, {:.1}, {:.1} | {:.3}, {:.3} |",
            offline.cpu / millions,
            (drained.cpu - offline.cpu) / millions,
            offline.rss_mib,
            drained.rss_mib,
            rss_mib(&agent),
            as_f64(offline.written) / as_f64(input.bytes),
            as_f64(drained.written - offline.written) / as_f64(input.bytes),
        );
        end(&agent);
        input.remove();
    }
}

impl Bench {
    /// A broker that was paused has to find itself again before it answers for its topics.
    pub(crate) fn wait_for_broker(&self) {
        std::thread::sleep(Duration::from_secs(3));
    }
}
