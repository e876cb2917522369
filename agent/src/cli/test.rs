//! `headwater-agent test --config FILE --source ID < SAMPLE`: what a source makes of a sample.
//!
//! Standard output has a line for each record, as it would be sent (of `value = "raw"` a JSON object with
//! the text, and the base64 of what is no UTF-8); standard error says how many
//! lines became what. Nothing is connected to, and nothing is remembered. The sample of a journal is
//! entries as `journalctl -o json` writes them.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use headwater_record::Generation;
use headwater_record::value::ValueWriter;

use crate::admin::tap::write_value;
use crate::clock::{monotonic, wall_ms};
use crate::config::{FileSource, Host, Plan};
use crate::frame::frames::{Chunk, Frames};
use crate::process::{Draft, Stage, State, Tally};

mod journal;

/// What is read of the sample at a time, bytes, beyond the longest line.
const READ_BYTES: usize = 64 * 1024;

/// Shows what the source `id` of the configuration at `path` makes of standard input.
///
/// # Errors
/// The configuration is refused, has no such source of lines or entries, or something cannot be read
/// or written.
pub fn run(path: &Path, id: &str) -> anyhow::Result<ExitCode> {
    let plan = match Plan::new(headwater_msk::config_file::read(path)?, &Host::read()) {
        Ok(plan) => plan,
        Err(problems) => {
            let list: Vec<_> = problems.iter().map(ToString::to_string).collect();
            bail!(
                "configuration {} is refused:\n  {}",
                path.display(),
                list.join("\n  ")
            );
        }
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    test(&plan, id, &mut io::stdin().lock(), &mut out, &mut err)?;
    Ok(ExitCode::SUCCESS)
}

fn test(
    plan: &Plan,
    id: &str,
    sample: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> anyhow::Result<()> {
    let is_asked = |other: &headwater_record::SourceId| other.as_str() == id;
    if let Some(source) = plan.files.iter().find(|source| is_asked(&source.id)) {
        return lines(plan, source, sample, out, err);
    }
    if let Some(source) = plan.journals.iter().find(|source| is_asked(&source.id)) {
        return journal::entries(plan, source, sample, out, err);
    }
    let files = plan.files.iter().map(|source| source.id.as_str());
    let journals = plan.journals.iter().map(|source| source.id.as_str());
    let known: Vec<_> = files.chain(journals).collect();
    bail!(
        "no source {id:?} reads lines or the journal; these do: {}",
        known.join(", ")
    );
}

/// Shows what a `[[file]]` makes of lines.
fn lines(
    plan: &Plan,
    source: &FileSource,
    sample: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> anyhow::Result<()> {
    let writer = ValueWriter::new(&plan.device, &source.id);
    let mut state = State::default();
    let moment = (wall_ms(), monotonic());
    let mut stage = Stage::new(&source.process, &writer, Generation(0), &mut state, moment);
    let mut draft = Draft::new(0);
    let (mut n_lines, mut n_records) = (0_u64, 0_u64);
    let mut buffer = Vec::new();
    let (mut start, mut inside) = (0, false);
    let framing = &source.framing;
    let mut encoding = framing.encoding.resolve(b"");
    loop {
        let room = framing.chunk_bytes_max().saturating_sub(buffer.len()) + READ_BYTES;
        let read = sample.by_ref().take(room as u64).read_to_end(&mut buffer)?;
        if start == 0 {
            encoding = framing.encoding.resolve(&buffer);
        }
        // The last line needs no end mark: nothing follows it.
        let cut = (read == 0).then(|| start + buffer.len() as u64);
        let cuts: Vec<_> = cut.into_iter().collect();
        let chunk = Chunk {
            bytes: &buffer,
            start,
            inside,
            nuls_until: None,
        };
        let mut frames = Frames::new(framing, encoding, chunk, &cuts);
        loop {
            let from = frames.offset();
            let Some(frame) = frames.next() else { break };
            let line = frame.line();
            n_lines += u64::from(line.is_some());
            let mut take = |draft: &mut Draft| match &line {
                Some(line) => stage.line(draft, line),
                None => stage.nuls(draft, from, frame.end),
            };
            while !take(&mut draft) {
                n_records += show(&mut draft, out)?;
            }
        }
        inside = frames.inside();
        let rest = usize::try_from(frames.offset() - start)?;
        start = frames.offset();
        buffer.drain(..rest);
        if read == 0 {
            break;
        }
    }
    while !stage.tell(&mut draft) {
        n_records += show(&mut draft, out)?;
    }
    n_records += show(&mut draft, out)?;
    writeln!(err, "{n_lines} lines: {}", said(n_records, stage.tally))?;
    Ok(())
}

/// What became of the sample, in words.
fn said(n_records: u64, tally: Tally) -> String {
    format!(
        "{n_records} records; {} filtered, {} repeats, {} cut by the rate limit, {} too large; \
         {} could not be parsed",
        tally.filtered, tally.repeated, tally.limited, tally.too_large, tally.unparsed
    )
}

/// Writes the draft's records, and begins another where it ends. The bytes of a line are shown as `tap` shows
/// them.
fn show(draft: &mut Draft, out: &mut impl Write) -> io::Result<u64> {
    let full = std::mem::replace(draft, Draft::new(draft.end()));
    let mut n_records = 0;
    let mut shown = Vec::new();
    for record in full.records() {
        shown.clear();
        if record.raw {
            shown.push(b'{');
            write_value(record, &mut shown);
            shown.push(b'}');
        } else {
            shown.extend_from_slice(record.value);
        }
        shown.push(b'\n');
        out.write_all(&shown)?;
        n_records += 1;
    }
    Ok(n_records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `test` shows for a sample, and what it says.
    fn tested(source: &str, sample: &str) -> anyhow::Result<(Vec<serde_json::Value>, String)> {
        tested_bytes(source, sample.as_bytes())
    }

    fn tested_bytes(
        source: &str,
        mut sample: &[u8],
    ) -> anyhow::Result<(Vec<serde_json::Value>, String)> {
        let config = format!(
            "device = \"pi-7\"\n[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n\
             [[file]]\nid = \"app\"\npaths = [\"/a\"]\nmax_line = \"1KiB\"\n{source}"
        );
        let file = headwater_msk::config_file::parse(&config).unwrap();
        let plan = Plan::new(file, &Host::default()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        test(&plan, "app", &mut sample, &mut out, &mut err)?;
        let values = String::from_utf8(out)?;
        let values = values
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        Ok((values.collect(), String::from_utf8(err)?))
    }

    #[test]
    fn a_sample_is_shown_as_it_would_be_sent() {
        let (values, said) = tested(
            "repeats = { within = \"30s\" }\n\
             [[file.process]]\nstep = \"parse\"\nformat = \"logfmt\"\n\
             [[file.process]]\nstep = \"drop\"\nfield = \"level\"\nin = [\"debug\"]\n",
            "level=debug a=1\nlevel=info a=2\nlevel=info a=2\r\nlevel=info a=2\nprose\nlevel=info a=3",
        )
        .unwrap();
        let shown: Vec<_> = values
            .iter()
            .map(|value| {
                (
                    value["a"].as_str().or(value["message"].as_str()),
                    value["repeated"].as_u64(),
                )
            })
            .collect();
        let expected = [
            (Some("2"), None),
            (Some("2"), Some(2)),
            (Some("prose"), None),
            (Some("3"), None),
        ];
        assert_eq!(shown, expected);
        assert_eq!(values[0]["device"], "pi-7");
        assert_eq!(
            said,
            "6 lines: 4 records; 1 filtered, 2 repeats, 0 cut by the rate limit, 0 too large; \
             1 could not be parsed\n"
        );
    }

    #[test]
    fn lines_that_a_container_runtime_tore_are_whole_and_redacted_across_the_tear() {
        let cri = "multiline = { preset = \"cri\" }\n\
                   [[file.process]]\nstep = \"redact\"\npattern = \"4111[0-9]+\"\n\
                   [[file.process]]\nstep = \"parse\"\nformat = \"cri\"\n";
        let file = [
            &b"2026-11-24T08:15:00.1Z stdout P paid with 4111 \xc3"[..],
            b"\n2026-11-24T08:15:00.2Z stdout P \xa9 4111",
            b"\n2026-11-24T08:15:00.3Z stdout F 1111\n2026-11-24T08:15:00.4Z stderr F x\n",
        ];
        let sample = file.concat();
        let (values, said) = tested_bytes(cri, &sample).unwrap();
        let shown = |value: &serde_json::Value| {
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            (field("timestamp"), field("stream"), field("message"))
        };
        let record = |time: &str, stream: &str, message: &str| {
            (time.to_owned(), stream.to_owned(), message.to_owned())
        };
        assert_eq!(
            values.iter().map(shown).collect::<Vec<_>>(),
            [
                record(
                    "2026-11-24T08:15:00.1Z",
                    "stdout",
                    "paid with 4111 \u{e9} [redacted]"
                ),
                record("2026-11-24T08:15:00.4Z", "stderr", "x"),
            ]
        );
        assert!(values.iter().all(|value| value.get("partial").is_none()));
        assert!(said.starts_with("2 lines: 2 records;"), "{said}");

        let docker = cri.replace("cri", "docker");
        let sample = "{\"log\":\"paid with 41\",\"stream\":\"stdout\",\"time\":\"t1\"}\n\
                      {\"log\":\"111111\\n\",\"stream\":\"stdout\",\"time\":\"t2\"}\n";
        let (values, _) = tested(&docker, sample).unwrap();
        let expected = [record("t1", "stdout", "paid with [redacted]")];
        assert_eq!(values.iter().map(shown).collect::<Vec<_>>(), expected);

        // The bytes are those of the file, as long as nothing is covered.
        let raw = "value = \"raw\"\nmultiline = { preset = \"cri\" }\n";
        let sample = "2026-1T stdout P a\n2026-1T stdout F b\n";
        let (values, _) = tested(raw, sample).unwrap();
        assert_eq!(values, [serde_json::json!({"value": sample.trim_end()})]);
        let raw = format!("{raw}[[file.process]]\nstep = \"redact\"\npattern = \"ab\"\n");
        let (values, _) = tested(&raw, sample).unwrap();
        let covered = serde_json::json!({"value": "2026-1T stdout F [redacted]"});
        assert_eq!(values, [covered]);
    }

    #[test]
    fn bytes_of_lines_are_shown_so_that_a_terminal_can_bear_them() {
        let source = "value = \"raw\"\nencoding = \"latin1\"\n\
                      [[file.process]]\nstep = \"drop\"\nfield = \"message\"\nmatches = \"^x\"\n";
        let (values, said) = tested(source, "a\u{1b}[2J\r\nx\n\u{e9}\n").unwrap();
        let expected = [
            serde_json::json!({"value": "a\u{1b}[2J"}),
            // Two bytes in the sample, which is UTF-8.
            serde_json::json!({"value": "\u{e9}"}),
        ];
        assert_eq!(values, expected);
        assert!(said.starts_with("3 lines: 2 records; 1 filtered"), "{said}");
    }

    #[test]
    fn long_samples_and_long_lines_are_shown_whole() {
        let sample = format!("{}\n{}", "x".repeat(2500), "short\n".repeat(50_000));
        let (values, said) = tested("", &sample).unwrap();
        assert_eq!(values.len(), 50_003);
        assert!(
            said.starts_with("50003 lines: 50003 records; 0 filtered"),
            "{said}"
        );
        let text = |value: &serde_json::Value| value["message"].as_str().unwrap().len();
        assert_eq!(values[..3].iter().map(text).sum::<usize>(), 2500);
    }

    #[test]
    fn a_source_that_is_not_there_is_said() {
        let file = headwater_msk::config_file::parse(
            "device = \"pi-7\"\n[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n\
             [[file]]\nid = \"app\"\npaths = [\"/a\"]\n\
             [[journal]]\nid = \"j\"\n",
        );
        let plan = Plan::new(file.unwrap(), &Host::default()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let error = test(&plan, "ap", &mut io::empty(), &mut out, &mut err).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no source \"ap\" reads lines or the journal; these do: app, j"
        );
    }
}
