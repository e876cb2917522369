//! How it goes with a running agent, as plain data: `status --json` prints it as it is, `status`
//! as a table, and [`super::metrics`] as OpenMetrics. Times are milliseconds, sizes bytes.

use std::fmt;
use std::time::Duration;

use headwater_msk::Bytes;
use headwater_msk::credentials::Health;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::delivery::Counters;
use crate::delivery::allowance::{BudgetUse, Period};
use crate::delivery::uplink::{By, Gate};
use crate::spool::disk::{Floors, Free};

/// Everything that is shown of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Identity of the device.
    pub device: String,
    /// Time since the start.
    pub up_ms: u64,
    /// Why the pipeline does not move though it should; none where all is well. A broker that is
    /// away is no such reason: the spool is there for that.
    pub stuck: Option<String>,
    /// The clock was never set: nothing is sent until it is.
    pub clock_unset: bool,
    /// How it stands with the broker.
    pub broker: Broker,
    /// How it stands with AWS credentials; none where the cluster wants none.
    pub credentials: Option<Health>,
    /// Sums since the start.
    pub counters: Counters,
    /// Samples of sensors since the start.
    pub samples: Samples,
    /// The files of the sources.
    #[serde(default)]
    pub files: Files,
    /// Records in RAM.
    pub window: Window,
    /// Batches on disk.
    pub spool: Spool,
    /// What passed to the brokers, and how it stands with the budgets for it.
    #[serde(default)]
    pub uplink: Uplink,
    /// What is left of the flash budget, bytes; none where there is none.
    #[serde(default)]
    pub flash_left_bytes: Option<u64>,
    /// What was written beyond it, and is not made up for yet.
    #[serde(default)]
    pub flash_debt_bytes: Option<u64>,
    /// The budget itself, for a day.
    #[serde(default)]
    pub flash_max_bytes: Option<u64>,
    /// What the process may take (`memory.max`), bytes; none where nobody says.
    #[serde(default)]
    pub memory_max_bytes: Option<u64>,
    /// How it went with new configurations.
    #[serde(default)]
    pub reloads: Reloads,
    /// What the kernel counts of the process.
    pub process: Process,
    /// Records that watchers (`tap`) missed, since they were slower than the agent.
    pub tap_missed: u64,
}

/// How it stands with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// It acknowledges in time, as far as anything was sent.
    pub online: bool,
    /// Time since it acknowledged last; none where it never did.
    pub acknowledged_ms_ago: Option<u64>,
}

/// The way to the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Bytes that passed since the start, both ways; none where there is no budget, and so nobody
    /// counts.
    pub bytes: Option<u64>,
    /// The budgets that there are.
    pub budgets: Vec<BudgetUse>,
    /// Whether anything may be sent, and what changes that next.
    #[serde(default)]
    pub gate: Gate,
}

impl Uplink {
    /// The budget of a period.
    pub(super) fn of(&self, period: Period) -> Option<&BudgetUse> {
        self.budgets.iter().find(|used| used.period == period)
    }
}

/// Configurations that were read again (SIGHUP).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// Taken.
    pub taken: u64,
    /// Refused: the one before stayed.
    pub refused: u64,
    /// The last one was refused.
    pub last_refused: bool,
}

/// Samples of sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// Taken, lost ones included.
    pub taken: u64,
    /// For which the window had no room; a loss notice says so.
    pub lost: u64,
}

/// The files of the sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Followed now.
    pub followed: u64,
    /// Passed over since the start: rotated and unreadable, or compressed in a way that is not read.
    #[serde(default)]
    pub skipped: u64,
    /// Known, and out of reach: they may not be read, their disk fails, or it is not mounted.
    pub out_of_reach: u64,
}

/// The RAM window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Taken.
    pub bytes: u64,
    /// Its bound.
    pub bytes_max: u64,
}

/// The spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spool {
    /// Batches.
    pub batches: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
    /// Their bound.
    pub bytes_max: u64,
    /// Age of the oldest; none where it is empty.
    pub oldest_ms: Option<u64>,
    /// It has no room for a lane that needs some, or dropped for want of it, since it had room last.
    #[serde(default)]
    pub full: bool,
    /// What its file system has free; none where that does not tell.
    #[serde(default)]
    pub free: Option<Free>,
    /// What is to be kept free of it.
    #[serde(default)]
    pub floors: Floors,
}

impl fmt::Display for Status {
    /// A table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.counters;
        writeln!(
            f,
            "headwater-agent {} on {}, up {}",
            self.version,
            self.device,
            period(self.up_ms)
        )?;
        match &self.stuck {
            None => writeln!(f, "pipeline    moves, or knows why not")?,
            Some(why) => writeln!(f, "pipeline    STUCK: {why}")?,
        }
        if self.clock_unset {
            writeln!(f, "clock       UNSET: nothing is sent until it is set")?;
        }
        broker_line(f, self.broker)?;
        if let Some(credentials) = &self.credentials {
            credentials_line(f, credentials)?;
        }
        writeln!(
            f,
            "read        {} records, {} in {} batches",
            counters.records,
            size(counters.bytes),
            counters.batches
        )?;
        writeln!(
            f,
            "delivered   {} batches; {} sent again, {} refused by the disk",
            counters.delivered, counters.retries, counters.refused
        )?;
        files_line(f, self.files)?;
        samples_line(f, self.samples)?;
        writeln!(
            f,
            "window      {} of {}",
            size(self.window.bytes),
            Bytes(self.window.bytes_max)
        )?;
        writeln!(
            f,
            "spool       {}{} batches, {} of {}{}",
            if self.spool.full { "FULL: " } else { "" },
            self.spool.batches,
            size(self.spool.bytes),
            Bytes(self.spool.bytes_max),
            (self.spool.oldest_ms).map_or(String::new(), |ms| format!(", oldest {}", period(ms)))
        )?;
        disk_line(f, &self.spool)?;
        gate_line(f, self.uplink.gate, counters.uplink_changes)?;
        budget_lines(f, &self.uplink)?;
        flash_line(f, self)?;
        if self.reloads.last_refused {
            writeln!(
                f,
                "config      the last new one was REFUSED: the one before it is in force"
            )?;
        }
        writeln!(
            f,
            "process     {}{} of memory, {:.1} s of CPU, {} written to storage, {} open files",
            size(self.process.rss_bytes),
            (self.memory_max_bytes).map_or(String::new(), |max| format!(" of {}", Bytes(max))),
            Duration::from_millis(self.process.cpu_ms).as_secs_f64(),
            size(self.process.written_bytes),
            self.process.open_files
        )
    }
}

fn broker_line(f: &mut fmt::Formatter<'_>, broker: Broker) -> fmt::Result {
    let state = if broker.online { "online" } else { "OFFLINE" };
    match broker.acknowledged_ms_ago {
        Some(ms) => writeln!(
            f,
            "broker      {state}, acknowledged last {} ago",
            period(ms)
        ),
        None => writeln!(
            f,
            "broker      {state}, nothing acknowledged since the start"
        ),
    }
}

fn files_line(f: &mut fmt::Formatter<'_>, files: Files) -> fmt::Result {
    write!(f, "files       {} followed", files.followed)?;
    if files.skipped > 0 {
        write!(f, "; {} passed over, the log says why", files.skipped)?;
    }
    if files.out_of_reach > 0 {
        write!(f, "; {} OUT OF REACH, the log says why", files.out_of_reach)?;
    }
    writeln!(f)
}

fn samples_line(f: &mut fmt::Formatter<'_>, samples: Samples) -> fmt::Result {
    let (taken, lost) = (samples.taken, samples.lost);
    writeln!(f, "sensors     {taken} samples taken, {lost} lost")
}

fn credentials_line(f: &mut fmt::Formatter<'_>, health: &Health) -> fmt::Result {
    let state = match (health.valid, health.left_ms) {
        (true, Some(left)) => format!("end in {}", period(left)),
        (true, None) => "do not end".to_owned(),
        (false, Some(_)) => "ENDED, nothing is sent".to_owned(),
        (false, None) => "NONE, nothing is sent".to_owned(),
    };
    let (source, fetched, failures) = (&health.source, health.fetched, health.failures);
    writeln!(
        f,
        "credentials {state}; {fetched} times fetched, {failures} times not, from {source}"
    )?;
    if let Some(failure) = &health.last_failure {
        let since = match failure.mended {
            true => "and mended since",
            false => "and not mended",
        };
        let ago = period(failure.ago_ms);
        // What others said is in it: it stays on its line.
        let reason = failure.reason.replace(char::is_control, " ");
        writeln!(f, "            failed {ago} ago {since}: {reason}")?;
    }
    match health.clock_offset_ms {
        Some(offset) if offset.unsigned_abs() > 5000 => writeln!(
            f,
            "clock       {} {} AWS's: tokens are signed with the corrected time, set the clock",
            period(offset.unsigned_abs()),
            if offset > 0 { "behind" } else { "ahead of" }
        ),
        _ => Ok(()),
    }
}

fn disk_line(f: &mut fmt::Formatter<'_>, spool: &Spool) -> fmt::Result {
    let (Some(free), floors) = (spool.free, spool.floors) else {
        return Ok(());
    };
    let inodes = (free.inodes).map_or(String::new(), |inodes| {
        format!(", {inodes} inodes of which {} are kept", floors.inodes)
    });
    let (bytes, kept) = (size(free.bytes), Bytes(floors.bytes));
    writeln!(
        f,
        "disk        {bytes} free of which {kept} are kept{inodes}"
    )
}

fn gate_line(f: &mut fmt::Formatter<'_>, gate: Gate, changes: u64) -> fmt::Result {
    if !gate.limited {
        return Ok(());
    }
    let by = gate.by.map_or("", By::name);
    let within = (gate.changes_in_ms).map(period);
    match (gate.open, within) {
        (true, None) => write!(f, "uplink      open")?,
        (true, Some(within)) => write!(f, "uplink      open for {within} ({by})")?,
        (false, None) => write!(f, "uplink      CLOSED by {by}")?,
        (false, Some(within)) => write!(f, "uplink      CLOSED for {within} by {by}")?,
    }
    writeln!(f, "; it changed {changes} times")
}

fn budget_lines(f: &mut fmt::Formatter<'_>, uplink: &Uplink) -> fmt::Result {
    for used in &uplink.budgets {
        let part = u128::from(used.used_bytes) * 100 / u128::from(used.max_bytes.max(1));
        writeln!(
            f,
            "uplink      {} of {} ({part} %) used of {}",
            size(used.used_bytes),
            Bytes(used.max_bytes),
            used.period.key()
        )?;
    }
    Ok(())
}

fn flash_line(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let (Some(left), Some(max)) = (status.flash_left_bytes, status.flash_max_bytes) else {
        return Ok(());
    };
    let debt = status.flash_debt_bytes.filter(|debt| *debt > 0);
    let over = debt.map_or(String::new(), |debt| format!(", {} OVERDRAWN", size(debt)));
    let (left, max) = (size(left), Bytes(max));
    writeln!(
        f,
        "flash       {left} of {max} left of flash.bytes_per_day{over}"
    )
}

/// A size to read, to a tenth of its unit.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes} B"),
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// A length of time to read: its two largest units.
pub(crate) fn period(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if ms < 10_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use headwater_msk::credentials::health::Failure;

    fn uplink() -> Uplink {
        Uplink {
            bytes: Some(2 << 20),
            budgets: (Period::ALL.into_iter())
                .map(|period| BudgetUse {
                    period,
                    used_bytes: 1 << 20,
                    max_bytes: 50 << 20,
                    ends_ms: 1_795_583_400_000,
                })
                .collect(),
            gate: Gate {
                open: true,
                by: Some(By::Hours),
                changes_in_ms: Some(7_200_000),
                limited: true,
            },
        }
    }

    fn spool() -> Spool {
        Spool {
            batches: 2,
            bytes: 20_480,
            bytes_max: 1 << 30,
            oldest_ms: Some(61_000),
            full: false,
            free: Some(Free {
                bytes: 3 << 30,
                inodes: Some(123_456),
            }),
            floors: Floors {
                bytes: 64 << 20,
                inodes: 1000,
            },
        }
    }

    pub(in crate::admin) fn example() -> Status {
        Status {
            version: "0.1.0".into(),
            device: "pi-7".into(),
            up_ms: 93_784_000,
            stuck: None,
            clock_unset: false,
            broker: Broker {
                online: true,
                acknowledged_ms_ago: Some(812),
            },
            credentials: Some(Health {
                source: "the AWS IoT credential provider".into(),
                valid: true,
                left_ms: Some(3_141_000),
                clock_offset_ms: Some(-812),
                fetched: 12,
                tokens: 99,
                ..Health::default()
            }),
            counters: Counters {
                records: 1_234_567,
                bytes: 251_658_240,
                batches: 4825,
                sent: 4830,
                delivered: 4823,
                spooled: 7,
                checkpoints: 31,
                retries: 5,
                recreated: 1,
                refused: 2,
                lost: 3,
                uplink_changes: 6,
                ..Counters::default()
            },
            samples: Samples {
                taken: 900,
                lost: 1,
            },
            files: Files {
                followed: 12,
                skipped: 3,
                out_of_reach: 1,
            },
            window: Window {
                bytes: 133_120,
                bytes_max: 4 << 20,
            },
            spool: spool(),
            process: Process {
                rss_bytes: 20 << 20,
                cpu_ms: 12_340,
                written_bytes: 3 << 20,
                open_files: 17,
                open_files_max: 1024,
                threads: 6,
                wakeups: 4711,
                preemptions: 12,
            },
            uplink: uplink(),
            flash_left_bytes: Some(12 << 20),
            flash_debt_bytes: Some(0),
            flash_max_bytes: Some(20 << 20),
            memory_max_bytes: Some(48 << 20),
            reloads: Reloads {
                taken: 2,
                refused: 1,
                last_refused: true,
            },
            tap_missed: 4,
        }
    }

    #[test]
    fn a_person_reads_it() {
        assert_eq!(
            example().to_string(),
            "headwater-agent 0.1.0 on pi-7, up 1 d 2 h\n\
             pipeline    moves, or knows why not\n\
             broker      online, acknowledged last 0.8 s ago\n\
             credentials end in 52 min 21 s; 12 times fetched, 0 times not, from the AWS IoT credential provider\n\
             read        1234567 records, 240.0 MiB in 4825 batches\n\
             delivered   4823 batches; 5 sent again, 2 refused by the disk\n\
             files       12 followed; 3 passed over, the log says why; 1 OUT OF REACH, the log says why\n\
             sensors     900 samples taken, 1 lost\n\
             window      130.0 KiB of 4MiB\n\
             spool       2 batches, 20.0 KiB of 1GiB, oldest 1 min 1 s\n\
             disk        3.0 GiB free of which 64MiB are kept, 123456 inodes of which 1000 are kept\n\
             uplink      open for 2 h 0 min (uplink.hours); it changed 6 times\n\
             uplink      1.0 MiB of 50MiB (2 %) used of uplink.bytes_per_hour\n\
             uplink      1.0 MiB of 50MiB (2 %) used of uplink.bytes_per_day\n\
             uplink      1.0 MiB of 50MiB (2 %) used of uplink.bytes_per_month\n\
             flash       12.0 MiB of 20MiB left of flash.bytes_per_day\n\
             config      the last new one was REFUSED: the one before it is in force\n\
             process     20.0 MiB of 48MiB of memory, 12.3 s of CPU, 3.0 MiB written to storage, 17 open files\n"
        );
        let mut worse = example();
        worse.stuck = Some("the disk hangs".into());
        worse.spool.full = true;
        worse.flash_debt_bytes = Some(2048);
        worse.uplink.gate = Gate {
            open: false,
            by: Some(By::Cycle),
            changes_in_ms: Some(61_000),
            limited: true,
        };
        worse.broker = Broker {
            online: false,
            acknowledged_ms_ago: None,
        };
        worse.credentials = Some(Health {
            clock_offset_ms: Some(7200),
            failures: 3,
            last_failure: Some(Failure {
                reason: "status 500:\nAWS has trouble".into(),
                ago_ms: 61_000,
                mended: false,
            }),
            ..Health::default()
        });
        let text = worse.to_string();
        for line in [
            "credentials NONE, nothing is sent; 0 times fetched, 3 times not,",
            "            failed 1 min 1 s ago and not mended: status 500: AWS has trouble\n",
            "spool       FULL: 2 batches, ",
            "left of flash.bytes_per_day, 2.0 KiB OVERDRAWN\n",
            "uplink      CLOSED for 1 min 1 s by uplink.session = \"cycle\"; it changed 6 times\n",
            "clock       7.2 s behind AWS's: tokens are signed with the corrected time, set the clock\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(
            text.contains("pipeline    STUCK: the disk hangs\n"),
            "{text}"
        );
        assert!(
            text.contains("broker      OFFLINE, nothing acknowledged since the start\n"),
            "{text}"
        );
    }

    #[test]
    fn a_program_reads_it() {
        let json = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), example());
    }

    #[test]
    fn sizes_and_times() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (ms, text) in [
            (0, "0.0 s"),
            (9_999, "9.9 s"),
            (10_000, "10 s"),
            (3_599_999, "59 min 59 s"),
            (3_600_000, "1 h 0 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(period(ms), text);
        }
    }
}
