//! What the kernel grants of the processor: the process's nice value, and the quota of its control group
//! (`CPUQuota=` of the unit), as `man 5 proc_pid_stat` and the kernel's `admin-guide/cgroup-v2` have them.

use std::fs;
use std::path::Path;

/// Where version 2 of control groups is mounted.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// The nice value: the 19th field of `/proc/self/stat`; 0 where it cannot be told.
pub(super) fn nice(stat: &str) -> i64 {
    // The second field is a name in parentheses, which may hold anything.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let field = after.split_whitespace().nth(16);
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Of the group that `groups` (`/proc/self/cgroup`) names below `root`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Quota {
    /// As many processors' time, the least of it and all groups above; none where nobody bounds it.
    pub(super) cores: Option<f64>,
    /// How long its processes were held up by that; none where it is not counted.
    pub(super) held_up_ms: Option<u64>,
}

impl Quota {
    pub(super) fn read(root: &Path, groups: &str) -> Self {
        let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
            return Self::default();
        };
        let own = root.join(group);
        let above = own.ancestors().take_while(|path| path.starts_with(root));
        let cores = above
            .filter_map(|path| cores(&fs::read_to_string(path.join("cpu.max")).ok()?))
            .reduce(f64::min);
        let stat = fs::read_to_string(own.join("cpu.stat")).unwrap_or_default();
        let held_up = stat.lines().find_map(|line| {
            let micros = line.strip_prefix("throttled_usec ")?;
            micros.trim().parse::<u64>().ok()
        });
        Self {
            cores,
            held_up_ms: held_up.map(|micros| micros / 1000),
        }
    }
}

/// `cpu.max`: microseconds of processor time in each period, or "max".
fn cores(text: &str) -> Option<f64> {
    let mut numbers = text.split_whitespace();
    let quota: u32 = numbers.next()?.parse().ok()?;
    let period: u32 = numbers.next()?.parse().ok()?;
    (period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nice_value_stands_behind_any_name() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 2 0 0 0 123 45 0 0 20 -5 1 0 9 9 9";
        assert_eq!(nice(stat), -5);
        assert_eq!(nice(""), 0);
    }

    #[test]
    fn the_least_quota_of_all_groups_above_holds() {
        let root = tempfile::tempdir().unwrap();
        let slice = root.path().join("system.slice");
        let unit = slice.join("headwater-agent.service");
        fs::create_dir_all(&unit).unwrap();
        let read = || {
            Quota::read(
                root.path(),
                "1:cpu:/x\n0::/system.slice/headwater-agent.service\n",
            )
        };
        assert_eq!(read(), Quota::default());
        fs::write(unit.join("cpu.max"), "max 100000\n").unwrap();
        fs::write(
            unit.join("cpu.stat"),
            "usage_usec 5\nthrottled_usec 1234567\n",
        )
        .unwrap();
        assert_eq!((read().cores, read().held_up_ms), (None, Some(1234)));
        fs::write(slice.join("cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(read().cores, Some(1.5));
        fs::write(unit.join("cpu.max"), "20000 100000\n").unwrap();
        assert_eq!(read().cores, Some(0.2));
        // Another hierarchy alone; and what lies above the root is nobody's.
        assert_eq!(Quota::read(root.path(), "1:cpu:/x\n"), Quota::default());
        assert_eq!(Quota::read(&unit, "0::/\n").cores, Some(0.2));
    }
}
