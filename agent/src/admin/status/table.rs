//! [`Status`] as a table for people: a line a matter, and in capitals what a person should look at.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use headwater_msk::Bytes;
use headwater_msk::credentials::Health;

use super::{Broker, Files, Samples, Spool, Status, Uplink};
use crate::delivery::uplink::{By, Gate};
use crate::process::Tally;

/// Of the files furthest behind so many are named.
const FURTHEST_SHOWN: usize = 3;

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
        refused_line(f, self.broker)?;
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
        files_line(f, &self.files)?;
        samples_line(f, self.samples)?;
        no_record_lines(f, self)?;
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
        trouble_lines(f, &self.spool)?;
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

fn refused_line(f: &mut fmt::Formatter<'_>, broker: Broker) -> fmt::Result {
    match broker.refused_batches {
        0 => Ok(()),
        refused => writeln!(
            f,
            "refused     {refused} batches by the broker, the log says why; they wait and are sent again"
        ),
    }
}

fn files_line(f: &mut fmt::Formatter<'_>, files: &Files) -> fmt::Result {
    write!(f, "files       {} followed", files.followed)?;
    if files.skipped > 0 {
        write!(f, "; {} passed over, the log says why", files.skipped)?;
    }
    if files.given_up > 0 {
        let (count, bytes) = (files.given_up, size(files.given_up_bytes));
        write!(
            f,
            "; {count} deleted ones GIVEN UP for the disk, {bytes} unread"
        )?;
    }
    if files.out_of_reach > 0 {
        write!(f, "; {} OUT OF REACH, the log says why", files.out_of_reach)?;
    }
    writeln!(f)?;
    if files.behind == 0 {
        return Ok(());
    }
    let (behind, unread) = (files.behind, size(files.unread_bytes));
    write!(f, "            {unread} of {behind} not read yet")?;
    for (n, one) in files.furthest.iter().take(FURTHEST_SHOWN).enumerate() {
        // A path is any bytes: it stays on its line.
        let stream = one.stream.replace(char::is_control, " ");
        let before = if n == 0 { ": most of" } else { "," };
        write!(f, "{before} {stream} ({})", size(one.unread_bytes))?;
    }
    writeln!(f)
}

fn samples_line(f: &mut fmt::Formatter<'_>, samples: Samples) -> fmt::Result {
    let (taken, lost) = (samples.taken, samples.lost);
    writeln!(f, "sensors     {taken} samples taken, {lost} lost")
}

/// Of what became no record: what was lost, and what was to be none.
fn no_record_lines(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    losses_line(f, &status.losses)?;
    lines_lines(f, &status.lines)
}

/// Where there are any.
fn losses_line(f: &mut fmt::Formatter<'_>, losses: &BTreeMap<String, u64>) -> fmt::Result {
    for (n, (reason, count)) in losses.iter().enumerate() {
        let before = if n == 0 { "LOST        " } else { ", " };
        write!(f, "{before}{count} times {reason}")?;
    }
    match losses.is_empty() {
        true => Ok(()),
        false => writeln!(f, " (notices say what)"),
    }
}

/// A line for each source of which something became no record.
fn lines_lines(f: &mut fmt::Formatter<'_>, lines: &BTreeMap<String, Tally>) -> fmt::Result {
    let mut before = "steps      ";
    for (source, tally) in lines {
        let parts = [
            (tally.filtered, "dropped"),
            (tally.unparsed, "not parsed"),
            (tally.repeated, "repeats"),
            (tally.limited, "above the rate limit"),
            (tally.too_large, "TOO LARGE"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !parts.is_empty() {
            writeln!(f, "{before} {source}: {}", parts.join(", "))?;
            before = "           ";
        }
    }
    Ok(())
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

/// Under the line of the spool.
fn trouble_lines(f: &mut fmt::Formatter<'_>, spool: &Spool) -> fmt::Result {
    if let Some(why) = &spool.refuses {
        writeln!(
            f,
            "            REFUSES: {why}; what waits for it is tried again"
        )?;
    }
    let Some(salvage) = spool.salvage else {
        return Ok(());
    };
    let (bytes, all) = (size(salvage.bytes), size(salvage.bytes_all));
    writeln!(
        f,
        "            DAMAGED, and being salvaged: {bytes} of {all} looked at; nothing is committed meanwhile"
    )
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
