//! What a `[[journal]]` makes of entries, as `journalctl -o json` writes them.

use std::io::{Read, Write};

use headwater_record::Generation;
use headwater_record::value::ValueWriter;

use super::{READ_BYTES, said, show};
use crate::clock::{monotonic, stamp_ms};
use crate::config::{JournalSource, Plan};
use crate::journal::{Output, Whole, entry};
use crate::process::{Draft, Stage, State};

/// Shows what becomes of each line of the sample.
///
/// Entries are numbered as they come, not as the journal numbers them: a sample may be of several
/// boots, or backwards, and nothing of it is accounted for.
pub(super) fn entries(
    plan: &Plan,
    source: &JournalSource,
    sample: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> anyhow::Result<()> {
    let writer = ValueWriter::new(&plan.device, &source.id);
    let mut state = State::default();
    let moment = (stamp_ms(), monotonic());
    let mut stage = Stage::new(&source.process, &writer, Generation(0), &mut state, moment);
    let malformed = entry::Malformed::of(&source.process);
    let mut draft = Draft::new(0);
    let (mut n_entries, mut n_records, mut n_too_long) = (0_u64, 0_u64, 0_u64);
    let (mut n_others, mut why) = (0_u64, None);
    let (mut whole, mut piece) = (Whole::default(), vec![0; READ_BYTES]);
    loop {
        let read = sample.read(&mut piece)?;
        // The last entry needs no end mark: nothing follows it.
        let bytes = if read == 0 { b"\n" } else { &piece[..read] };
        for output in whole.take(bytes) {
            let Output::Lines(lines) = output else {
                n_too_long += 1;
                continue;
            };
            for line in lines.split(|byte| *byte == b'\n') {
                if line.is_empty() {
                    continue;
                }
                let entry = match entry::parse(line, &source.fields, malformed) {
                    Ok(entry) => entry,
                    Err(trouble) => {
                        n_others += 1;
                        why.get_or_insert(trouble);
                        continue;
                    }
                };
                n_entries += 1;
                let time_ms = entry.cursor.time_us / 1000;
                while !stage.row(&mut draft, n_entries, time_ms, entry.row.clone()) {
                    n_records += show(&mut draft, out)?;
                }
            }
        }
        if read == 0 {
            break;
        }
    }
    while !stage.tell(&mut draft) {
        n_records += show(&mut draft, out)?;
    }
    n_records += show(&mut draft, out)?;
    let mut tally = stage.tally;
    tally.too_large += n_too_long;
    let total = n_entries + n_too_long;
    writeln!(err, "{total} entries: {}", said(n_records, tally))?;
    if let Some(why) = why {
        writeln!(
            err,
            "{n_others} lines are no entries of `journalctl -o json`: of the first, {why}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::Host;

    fn entry(number: u64, unit: &str, message: &str) -> String {
        let id = "739ad463348b4ceca5a9e69c95a3c93f";
        let cursor = format!("s={id};i={number:x};b={id};m=1;t=4c508a72423d9;x=1");
        format!(
            r#"{{"__CURSOR":"{cursor}","MESSAGE":"{message}","_SYSTEMD_UNIT":"{unit}","PRIORITY":"6"}}"#
        )
    }

    /// What `test` shows for a sample, and what it says.
    fn tested(source: &str, sample: &str) -> (Vec<Value>, String) {
        let config = format!(
            "device = \"pi-7\"\n[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n\
             [[journal]]\nid = \"j\"\n{source}"
        );
        let file = headwater_msk::config_file::parse(&config).unwrap();
        let plan = Plan::new(file, &Host::default()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        super::super::test(&plan, "j", &mut sample.as_bytes(), &mut out, &mut err).unwrap();
        let text = String::from_utf8(out).unwrap();
        let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (values.collect(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn entries_go_through_the_steps_of_a_journal() {
        let sample = [
            entry(9, "app.service", "level=debug a=1"),
            entry(8, "app.service", "level=info a=2"),
            entry(7, "app.service", "level=info a=2"),
            entry(1, "ssh.service", "prose"),
        ]
        .join("\n");
        let (values, told) = tested(
            "repeats = { within = \"30s\" }\n\
             [[journal.process]]\nstep = \"parse\"\nformat = \"logfmt\"\n\
             [[journal.process]]\nstep = \"drop\"\nfield = \"level\"\nin = [\"debug\"]\n",
            &sample,
        );
        let shown: Vec<_> = values
            .iter()
            .map(|value| {
                (
                    value["a"].as_str().or(value["message"].as_str()),
                    value["unit"].as_str(),
                    value["repeated"].as_u64(),
                )
            })
            .collect();
        let expected = [
            (Some("2"), Some("app.service"), None),
            (Some("2"), Some("app.service"), Some(1)),
            (Some("prose"), Some("ssh.service"), None),
        ];
        assert_eq!(shown, expected);
        assert_eq!(values[0]["time"], "2012-07-17T16:01:01.416Z");
        assert_eq!(
            told,
            "4 entries: 3 records; 1 filtered, 1 repeats, 0 cut by the rate limit, 0 too large; \
             1 could not be parsed\n"
        );
    }

    #[test]
    fn a_raw_value_is_the_message_and_steps_see_the_other_fields() {
        let sample = [
            entry(1, "app.service", "a\\u001b key=1"),
            entry(2, "ssh.service", "b"),
        ]
        .join("\n");
        let sample = sample.replace("\"a\\u001b key=1\"", "[255,32,107,101,121,61,49]");
        let (values, _) = tested(
            "value = \"raw\"\n[[journal.process]]\nstep = \"keep\"\nfield = \"unit\"\nin = [\"app.service\"]\n\
             [[journal.process]]\nstep = \"redact\"\npattern = \"key=.\"\nreplace = \"*\"\n",
            &sample,
        );
        let expected = serde_json::json!({"value": "\u{fffd} *", "value_base64": "/yAq"});
        assert_eq!(values, [expected]);
    }

    #[test]
    fn what_is_no_entry_is_said() {
        let long = "x".repeat(2 << 20);
        let sample = format!("-- No entries --\n{}\n{long}\n{{}}\n", entry(1, "u", "a"));
        let (values, told) = tested("", &sample);
        assert_eq!(values.len(), 1);
        assert_eq!(
            told,
            "2 entries: 1 records; 0 filtered, 0 repeats, 0 cut by the rate limit, 1 too large; \
             0 could not be parsed\n\
             2 lines are no entries of `journalctl -o json`: of the first, it is no JSON object\n"
        );
    }
}
