//! What the kernel counts of a process.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use headwater_tests::process::Process;

use super::PATIENCE;

/// What a process has used so far.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    /// The highest resident memory.
    pub(crate) rss_mib: f64,
    /// Bytes that it caused to be written to storage.
    pub(crate) written: u64,
}

impl Used {
    /// # Panics
    /// It is gone.
    pub(crate) fn by(pid: u32) -> Self {
        let proc = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
        let stat = proc("stat");
        // The name in parentheses may hold spaces; utime and stime are fields 14 and 15 of all.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks = after.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Self {
            cpu: as_f64(ticks) / as_f64(rustix::param::clock_ticks_per_second()),
            rss_mib: as_f64(number(&proc("status"), "VmHWM:")) / 1024.0,
            written: number(&proc("io"), "\nwrite_bytes:"),
        }
    }
}

/// Resident memory now.
pub(crate) fn rss_mib(process: &Process) -> f64 {
    as_f64(process.rss_kib()) / 1024.0
}

/// Resident memory now, of any process.
pub(crate) fn rss_mib_of(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    as_f64(number(&status, "VmRSS:")) / 1024.0
}

/// How often each of its threads was woken so far, by the threads' names.
pub(crate) fn wake_ups(pid: u32) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut woken = BTreeMap::new();
    for task in tasks.flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        *woken.entry(name).or_default() += number(&read("status"), "\nvoluntary_ctxt_switches:");
    }
    woken
}

/// System calls of all of a process's threads in so many seconds, as strace counts them.
pub(crate) fn system_calls(pid: u32, seconds: u32) -> u64 {
    let counted = format!("timeout -s INT {seconds} strace -f -c -p {pid} 2>&1 >/dev/null");
    let output = Command::new("sh").args(["-c", &counted]).output();
    let text = String::from_utf8_lossy(&output.expect("strace runs").stdout).into_owned();
    // "100.00    0.001234           1      1234        12 total"
    let total = text.lines().find(|line| line.trim_end().ends_with("total"));
    let calls = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    calls.unwrap_or_else(|| panic!("strace counts nothing: {text}"))
}

/// Stops it in order.
pub(crate) fn end(process: &Process) {
    assert_eq!(process.sigterm_and_wait(PATIENCE).code(), Some(0));
}

/// User and system time of a shell command, seconds.
pub(crate) fn cpu_of(command: &str) -> f64 {
    let timed = format!("TIMEFORMAT='%U %S'; time {{ {command}; }}");
    let output = Command::new("bash").args(["-c", &timed]).output();
    let output = output.expect("bash runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {text}");
    let last = text.lines().last().unwrap_or_default();
    last.split(' ')
        .map(|part| part.parse::<f64>().expect("bash prints two numbers"))
        .sum()
}

/// The number behind the last `name` in a text.
pub(crate) fn number(text: &str, name: &str) -> u64 {
    let rest = text.rsplit_once(name).map_or("", |(_, rest)| rest);
    let digits = rest
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next();
    digits.unwrap_or_default().parse().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
pub(crate) fn as_f64(n: u64) -> f64 {
    n as f64
}
