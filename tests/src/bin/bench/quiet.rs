//! What an agent costs that has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use headwater_tests::loading::Loading;

use super::Bench;
use super::input::Input;
use super::measure::{Used, as_f64, end, rss_mib_of, system_calls, wake_ups};
use super::peers::{self, Queue, start_rsyslog};

/// How long it is watched.
const WATCHED: u32 = 60;

pub(crate) fn run(bench: &Bench) {
    println!(
        "\n| quiet | RSS MiB | wake-ups a second | by thread | system calls a second | CPU s an hour |"
    );
    println!("|---|---|---|---|---|---|");
    for files in [1, 1000] {
        let input = Input::service(&bench.folder, files, files * 10, 200);
        watch_agent(bench, &format!("{files} files"), &input.glob(), "");
        let topic = peers::topic(bench);
        let rsyslog = start_rsyslog(bench, &topic, &input, Queue::Memory);
        watch(&format!("{files} files, rsyslog"), rsyslog.pid());
        drop(rsyslog);
        if files > 1 {
            let small = "[window]\nbytes = \"1MiB\"\n";
            let what = format!("{files} files, a window of 1 MiB");
            watch_agent(bench, &what, &input.glob(), small);
        }
        input.remove();
    }
    // A sensor a second: what it costs beside its own.
    let sensor = bench.folder.join("temp");
    fs::write(&sensor, "21500\n").expect("there is room for it");
    let more = format!(
        "[[sensor]]\nid = \"t\"\npaths = [\"{}\"]\ninterval = \"10s\"\ndeadband = \"1\"\nheartbeat = \"1h\"\n",
        sensor.display()
    );
    let input = Input::service(&bench.folder, 1, 10, 200);
    watch_agent(
        bench,
        "1 file, a sensor read every 10 s",
        &input.glob(),
        &more,
    );
    input.remove();
}

fn watch_agent(bench: &Bench, what: &str, glob: &str, more: &str) {
    let loading = Loading::new(&bench.kafka, &bench.s3, "quiet", 1);
    let agent = bench.agent(&loading, glob, more);
    watch(what, agent.pid());
    end(&agent);
}

/// Prints what a process costs while nothing comes.
fn watch(what: &str, pid: u32) {
    // Beyond the first minute's checkpoint and the first metadata.
    std::thread::sleep(Duration::from_secs(75));
    let (before, cpu) = (wake_ups(pid), Used::by(pid).cpu);
    std::thread::sleep(Duration::from_secs(WATCHED.into()));
    let (after, cpu_after) = (wake_ups(pid), Used::by(pid).cpu);
    let calls = system_calls(pid, 30);
    let woken: BTreeMap<&str, u64> = (after.iter())
        .map(|(name, n)| (name.as_str(), n - before.get(name).copied().unwrap_or(0)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let by_thread: Vec<String> = (woken.iter())
        .map(|(name, n)| format!("{name} {:.2}", as_f64(*n) / f64::from(WATCHED)))
        .collect();
    println!(
        "| {what} | {:.1} | {:.2} | {} | {:.1} | {:.2} |",
        rss_mib_of(pid),
        as_f64(woken.values().sum()) / f64::from(WATCHED),
        by_thread.join(", "),
        as_f64(calls) / 30.0,
        (cpu_after - cpu) * 3600.0 / f64::from(WATCHED)
    );
}
