//! What the kernel counts of this process, from `/proc/self` (`man 5 proc`).

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cpu::{self, Quota};

/// What the kernel counts of the process; 0 where it does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory.
    pub rss_bytes: u64,
    /// CPU time, user and system.
    pub cpu_ms: u64,
    /// Bytes written to storage (`write_bytes` of `/proc/self/io`): what flash wears by.
    pub written_bytes: u64,
    /// Open files.
    pub open_files: u64,
    /// As many as it may have open (`LimitNOFILE=`).
    #[serde(default)]
    pub open_files_max: u64,
    /// Threads.
    #[serde(default)]
    pub threads: u64,
    /// How often the threads that run now have waited and were woken (voluntary context switches).
    #[serde(default)]
    pub wakeups: u64,
    /// How often they were stopped for others (involuntary ones).
    #[serde(default)]
    pub preemptions: u64,
    /// How it gives way to other programs (`Nice=`).
    #[serde(default)]
    pub nice: i64,
    /// As many processors' time as its control group may take (`CPUQuota=`); none where nobody bounds it.
    #[serde(default)]
    pub cpu_quota_cores: Option<f64>,
    /// How long the control group was held up by that; none where it is not counted.
    #[serde(default)]
    pub cpu_held_up_ms: Option<u64>,
}

impl Process {
    /// This process, now.
    pub fn read() -> Self {
        let read = |file| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let (stat, quota) = (
            read("stat"),
            Quota::read(Path::new(cpu::CGROUPS), &read("cgroup")),
        );
        let open_files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            rss_bytes: number(&read("status"), "VmRSS:").saturating_mul(1024),
            cpu_ms: cpu_ms(&stat),
            written_bytes: number(&read("io"), "write_bytes:"),
            open_files: open_files as u64,
            open_files_max: number(&read("limits"), "Max open files"),
            nice: cpu::nice(&stat),
            cpu_quota_cores: quota.cores,
            cpu_held_up_ms: quota.held_up_ms,
            ..switches()
        }
    }
}

/// Summed over the threads: `/proc/self/status` has those of the first thread alone.
fn switches() -> Process {
    let mut sum = Process::default();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten() {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        sum.threads += 1;
        sum.wakeups += number(&status, "voluntary_ctxt_switches:");
        sum.preemptions += number(&status, "nonvoluntary_ctxt_switches:");
    }
    sum
}

/// The number behind `name` at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let first = line.and_then(|line| line.split_whitespace().next());
    first.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// `utime` and `stime` of `man 5 proc_pid_stat`, in ticks of 10 ms: the kernel's `USER_HZ` is 100 on
/// every architecture that we build for.
fn cpu_ms(stat: &str) -> u64 {
    // The second field is a name in parentheses, which may hold anything.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks.saturating_mul(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read() {
        // It has waited once, at least.
        std::thread::sleep(std::time::Duration::from_millis(1));
        let process = Process::read();
        assert!(
            process.rss_bytes > 1 << 20 && process.open_files > 2,
            "{process:?}"
        );
        assert!(process.open_files < process.open_files_max, "{process:?}");
        assert!(process.threads > 0 && process.wakeups > 0, "{process:?}");
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 2 0 0 0 123 45 0 0 20 0 1 0 9 9 9";
        assert_eq!(cpu_ms(stat), 1680);
        assert_eq!(
            number("rchar: 5\nwrite_bytes: 4096\n", "write_bytes:"),
            4096
        );
        assert_eq!(number("", "write_bytes:"), 0);
    }
}
