//! syslog: RFC 5424, and the older form that RFC 3164 describes, as programs send it and as files
//! keep it (`<PRI>` is then gone, and the time may be RFC 3339's).
//!
//! ```text
//! <34>1 2026-11-24T08:15:00.003Z pi-7 su 77 ID47 [origin@32473 ip="10.0.0.7"] denied
//! <34>Nov 24 08:15:00 pi-7 su[77]: denied
//! 2026-11-24T08:15:00.123456+01:00 pi-7 su[77]: denied
//! ```
//!
//! Fields, as far as they are there: `facility`, `severity` (their keywords), `timestamp` (as it is
//! written), `host`, `app`, `pid`, `msgid`, `structured_data`, `message`.

use super::super::Row;
use super::put;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The newer where it begins like that.
    Either,
    Rfc3164,
    Rfc5424,
}

/// Keywords of RFC 5424's table 1, as syslog.conf writes them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

pub(super) fn parse(text: &str, which: Which) -> Result<Row, &'static str> {
    let mut row = Row::new();
    let rest = priority(&mut row, text);
    let newer = rest.filter(|rest| rest.starts_with("1 "));
    match (which, newer, rest) {
        (Which::Either | Which::Rfc5424, Some(rest), _) => rfc5424(&mut row, &rest[2..])?,
        (Which::Rfc5424, None, _) => return Err("not RFC 5424: it does not begin <PRI>1"),
        (Which::Either | Which::Rfc3164, _, rest) => rfc3164(&mut row, rest.unwrap_or(text))?,
    }
    Ok(row)
}

/// Facility and severity, and what stands behind them; `None` where there is no `<PRI>`.
fn priority<'a>(row: &mut Row, text: &'a str) -> Option<&'a str> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let priority: usize = digits.parse().ok()?;
    let facility = FACILITIES.get(priority / 8)?;
    row.insert("facility".into(), (*facility).into());
    row.insert("severity".into(), SEVERITIES[priority % 8].into());
    Some(rest)
}

fn rfc3164(row: &mut Row, text: &str) -> Result<(), &'static str> {
    let (timestamp, rest) = timestamp(text).ok_or("not syslog: no time at its beginning")?;
    row.insert("timestamp".into(), timestamp.into());
    let (host, rest) = rest
        .split_once(' ')
        .ok_or("not syslog: no message behind the host")?;
    if host.is_empty() {
        return Err("not syslog: two blanks where the host belongs");
    }
    row.insert("host".into(), host.into());
    let message = match tag(rest) {
        None => rest,
        Some((app, pid, message)) => {
            row.insert("app".into(), app.into());
            if let Some(pid) = pid {
                row.insert("pid".into(), pid.into());
            }
            message
        }
    };
    row.insert("message".into(), message.into());
    Ok(())
}

/// The time, and what stands behind the blank after it: `Nov 24 08:15:00`, `Nov  4 08:15:00`, or
/// RFC 3339.
fn timestamp(text: &str) -> Option<(&str, &str)> {
    let digits = |text: &str, ats: &[usize]| {
        ats.iter()
            .all(|at| text.as_bytes().get(*at).is_some_and(u8::is_ascii_digit))
    };
    if MONTHS.iter().any(|month| text.starts_with(month)) {
        let (time, rest) = text.split_at_checked(15)?;
        let marks = [(3, b' '), (6, b' '), (9, b':'), (12, b':')];
        let is_time = marks.iter().all(|(at, mark)| time.as_bytes()[*at] == *mark)
            && matches!(time.as_bytes()[4], b' ' | b'0'..=b'3')
            && digits(time, &[5, 7, 8, 10, 11, 13, 14]);
        return Some((time, rest.strip_prefix(' ')?)).filter(|_| is_time);
    }
    let (time, rest) = text.split_once(' ')?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':')];
    let is_time = marks
        .iter()
        .all(|(at, mark)| time.as_bytes().get(*at) == Some(mark))
        && digits(time, &[0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15]);
    Some((time, rest)).filter(|_| is_time)
}

/// `app[pid]: message` or `app: message`; `None` where a message begins otherwise.
fn tag(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let len = text.find([' ', ':', '['])?;
    let (app, rest) = text.split_at(len);
    let (pid, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (pid, rest) = rest.split_once(']')?;
            (Some(pid), rest)
        }
        None => (None, rest),
    };
    let message = rest.strip_prefix(':')?;
    (!app.is_empty()).then(|| (app, pid, message.strip_prefix(' ').unwrap_or(message)))
}

fn rfc5424(row: &mut Row, text: &str) -> Result<(), &'static str> {
    let mut rest = text;
    for name in ["timestamp", "host", "app", "pid", "msgid"] {
        let (value, after) = rest
            .split_once(' ')
            .ok_or("not RFC 5424: its header ends early")?;
        if value.is_empty() {
            return Err("not RFC 5424: two blanks in its header");
        }
        if value != "-" {
            row.insert(name.into(), value.into());
        }
        rest = after;
    }
    let message = match rest.strip_prefix('-') {
        Some(rest) => rest,
        None => {
            let mut elements = Row::new();
            while rest.starts_with('[') {
                rest = element(&mut elements, &rest[1..])?;
            }
            if elements.is_empty() {
                return Err("not RFC 5424: neither - nor [ behind its header");
            }
            row.insert("structured_data".into(), elements.into());
            rest
        }
    };
    if let Some(message) = message.strip_prefix(' ') {
        let message = message.strip_prefix('\u{feff}').unwrap_or(message);
        row.insert("message".into(), message.into());
    } else if !message.is_empty() {
        return Err("not RFC 5424: no blank behind its structured data");
    }
    Ok(())
}

/// `id name="value" …]`; returns what stands behind it. A name that stands twice: the last counts.
fn element<'a>(elements: &mut Row, text: &'a str) -> Result<&'a str, &'static str> {
    const WRONG: &str = "not RFC 5424: its structured data is not [id name=\"value\"]";
    let (id, mut rest) = text.split_at(text.find([' ', ']']).ok_or(WRONG)?);
    if id.is_empty() {
        return Err(WRONG);
    }
    let mut parameters = Row::new();
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            put(elements, id, parameters.into())?;
            return Ok(after);
        }
        let (name, after) = rest
            .strip_prefix(' ')
            .and_then(|rest| rest.split_once("=\""))
            .ok_or(WRONG)?;
        if name.is_empty() || name.contains([' ', ']', '"', '=']) {
            return Err(WRONG);
        }
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().ok_or(WRONG)? {
                (at, '"') => break at + 1,
                // Before anything but these three a backslash stands for itself (section 6.3.3).
                (at, '\\') if after[at + 1..].starts_with(['"', '\\', ']']) => {
                    value.extend(chars.next().map(|(_, c)| c));
                }
                (_, c) => value.push(c),
            }
        };
        put(&mut parameters, name, value.into())?;
        rest = &after[end..];
    }
}
