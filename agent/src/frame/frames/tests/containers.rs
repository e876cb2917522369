//! Files of container runtimes: what they tore apart comes back as it was, and nothing of one output gets into
//! a line of the other.

use headwater_record::steps::parse::cri;
use headwater_record::steps::{Row, StepFile, Steps};
use serde_json::json;

use super::*;
use crate::frame::multiline::Preset;

/// A line of the file.
#[derive(Debug, Clone)]
struct Written {
    stream: &'static str,
    text: Vec<u8>,
    /// The program's line goes on in another one.
    goes_on: bool,
}

/// As the runtime writes it; `number`: its place in the file, which its time says.
fn write(preset: Preset, number: usize, line: &Written) -> Vec<u8> {
    let Written {
        stream,
        text,
        goes_on,
    } = line;
    let time = format!("2026-11-24T08:15:{number:02}Z");
    if preset == Preset::Cri {
        let tag = if *goes_on { "P" } else { "F" };
        let head = format!("{time} {stream} {tag} ");
        return [head.as_bytes(), text, b"\n"].concat();
    }
    let end = if *goes_on { "" } else { "\n" };
    let log = String::from_utf8_lossy(text).into_owned() + end;
    let log = serde_json::to_string(&log).unwrap();
    format!("{{\"log\":{log},\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n").into_bytes()
}

/// What is in a record: time, stream, text, whether it goes on.
fn read(preset: Preset, record: &[u8]) -> (String, String, Vec<u8>, bool) {
    if preset == Preset::Cri {
        let (header, text) = cri::header(record).unwrap();
        let (time, stream) = (header.timestamp.to_owned(), header.stream.to_owned());
        return (time, stream, text.to_vec(), header.is_partial());
    }
    let object: serde_json::Value = serde_json::from_slice(record).unwrap();
    let field = |name: &str| object[name].as_str().unwrap().to_owned();
    let log = field("log");
    let (text, goes_on) = match log.strip_suffix('\n') {
        Some(line) => (line.to_owned(), false),
        None => (log, true),
    };
    (field("time"), field("stream"), text.into_bytes(), goes_on)
}

fn following(preset: Preset, max_line: usize) -> Framing {
    gathering(Multiline::Preset(preset), max_line)
}

/// What the source's `parse` step makes of a record.
fn parsed(format: &str, record: &[u8]) -> serde_json::Value {
    let step: StepFile =
        serde_json::from_value(json!({"step": "parse", "format": format})).unwrap();
    let mut row = Row::new();
    row.insert(
        "message".into(),
        std::str::from_utf8(record).unwrap().into(),
    );
    Steps::new(vec![step]).unwrap().run(&mut row, 0);
    row.into()
}

#[test]
fn parts_come_out_as_the_line_that_they_were() {
    let file = "2026-11-24T08:15:00.1Z stdout P a \n2026-11-24T08:15:00.2Z stdout P b\n\
                2026-11-24T08:15:00.3Z stdout F c\n2026-11-24T08:15:00.4Z stdout F d\n";
    let records = framed(&following(Preset::Cri, 1024), file.as_bytes(), &[]);
    let line = |end, text: &str| (end, text.as_bytes().to_vec(), "");
    // The last does not wait for what follows: it is known to be whole.
    assert_eq!(
        records,
        [
            line(103, "2026-11-24T08:15:00.1Z stdout F a bc"),
            line(137, "2026-11-24T08:15:00.4Z stdout F d"),
        ]
    );
    assert_eq!(
        parsed("cri", &records[0].1).to_string(),
        json!({"timestamp": "2026-11-24T08:15:00.1Z", "stream": "stdout", "message": "a bc"})
            .to_string()
    );
    let file = "{\"log\":\"a \\\"\",\"stream\":\"stderr\",\"attrs\":{\"x\":\"1\"},\"time\":\"t1\"}\n\
                {\"log\":\"b\\\\n\",\"stream\":\"stderr\",\"attrs\":{\"x\":\"1\"},\"time\":\"t2\"}\n\
                {\"log\":\"c\\n\",\"stream\":\"stderr\",\"attrs\":{\"x\":\"1\"},\"time\":\"t3\"}\n";
    let records = framed(&following(Preset::Docker, 1024), file.as_bytes(), &[]);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].0, file.len() as u64);
    let whole =
        json!({"log": "a \"b\\nc\n", "stream": "stderr", "attrs": {"x": "1"}, "time": "t1"});
    let object: serde_json::Value = serde_json::from_slice(&records[0].1).unwrap();
    assert_eq!(object, whole);
    assert_eq!(
        parsed("docker", &records[0].1),
        json!({"timestamp": "t1", "stream": "stderr", "message": "a \"b\\nc", "attrs": {"x": "1"}})
    );
}

#[test]
fn a_line_of_the_other_output_is_never_taken_into_one() {
    let file = "2026-11-24T08:15:00Z stdout P a\n2026-11-24T08:15:01Z stderr F x\n\
                2026-11-24T08:15:02Z stdout F b\nno form at all\n";
    let records = framed(&following(Preset::Cri, 1024), file.as_bytes(), &[]);
    let texts: Vec<_> = records
        .iter()
        .map(|(_, text, _)| text.escape_ascii().to_string())
        .collect();
    let lines: Vec<_> = file.lines().collect();
    assert_eq!(texts, lines);
    let partial = |record: &Seen| parsed("cri", &record.1).get("partial").cloned();
    assert_eq!(partial(&records[0]), Some(true.into()));
    assert_eq!(partial(&records[2]), None);
}

#[test]
fn what_is_longer_than_max_line_goes_in_pieces_that_can_be_read_alone() {
    let parts = ["P aaaaaaaaaa", "P bbbbbbbbbb", "P cccccccccc", "F dd"];
    let file: String = parts
        .iter()
        .map(|part| format!("2026-1T stdout {part}\n"))
        .collect();
    let records = framed(&following(Preset::Cri, 64), file.as_bytes(), &[]);
    let piece = |end, text: &str, mark| (end, text.as_bytes().to_vec(), mark);
    assert_eq!(
        records,
        [
            piece(56, "2026-1T stdout P aaaaaaaaaabbbbbbbbbb", ">"),
            piece(104, "2026-1T stdout F ccccccccccdd", ""),
        ]
    );
}

#[test]
fn the_end_of_a_line_of_docker_decides_of_which_output_it_is() {
    let long = "x".repeat(3000);
    let file = format!(
        "{{\"log\":\"a\",\"stream\":\"stdout\"}}\n{{\"log\":\"{long}\\n\",\"stream\":\"stderr\"}}\n\
         {{\"log\":\"b\",\"stream\":\"stdout\"}}\n{{\"log\":\"{long}\\n\",\"stream\":\"stdout\"}}\n"
    );
    let framing = following(Preset::Docker, 4096);
    let whole = tail_framed(&framing, file.as_bytes(), &[], 0, &[]);
    let lengths: Vec<_> = whole.iter().map(|(_, text, _)| text.len()).collect();
    assert_eq!(lengths, [29, 3030, 3031]);
    // As long as it is not there, nothing is told.
    let torn = &file.as_bytes()[..2600];
    assert_eq!(tail_framed(&framing, torn, &[], 0, &[]), []);
}

/// The parts of a text: cut at these places, which may lie inside characters.
fn torn(text: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|pair| text[pair[0]..pair[1]].to_vec())
        .collect()
}

fn lines() -> impl Strategy<Value = Vec<Written>> {
    let line = (
        prop::sample::select(vec!["stdout", "stderr"]),
        "[a \"\\\\né\u{1F980}]{0,12}".prop_map(|text| text.replace('\n', "")),
        any::<bool>(),
    );
    let line = line.prop_map(|(stream, text, goes_on)| Written {
        stream,
        text: text.into_bytes(),
        goes_on,
    });
    prop::collection::vec(line, 0..16)
}

proptest! {
    #[test]
    fn any_text_torn_anywhere_comes_back(
        text in "[^\n\0\r]{0,60}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let parts = torn(text.as_bytes(), &cuts);
        let last = parts.len() - 1;
        let part = |(number, text): (usize, &Vec<u8>)| {
            let line = Written { stream: "stdout", text: text.clone(), goes_on: number < last };
            write(Preset::Cri, number, &line)
        };
        let file = parts.iter().enumerate().map(part).collect::<Vec<_>>().concat();
        let records = framed(&following(Preset::Cri, 4096), &file, &[]);
        prop_assert_eq!(records.len(), 1);
        prop_assert_eq!((records[0].0, records[0].2), (file.len() as u64, ""));
        let made = parsed("cri", &records[0].1);
        let whole = json!({
            "timestamp": "2026-11-24T08:15:00Z", "stream": "stdout", "message": text,
        });
        prop_assert_eq!(made, whole);
    }

    #[test]
    fn no_text_is_lost_or_mixed_and_framing_replays(
        preset in prop::sample::select(vec![Preset::Cri, Preset::Docker]),
        lines in lines(),
        max_line in 160_usize..400,
        sizes in prop::collection::vec(0_usize..200, 0..12),
        again in prop::collection::vec(0_usize..200, 0..12),
        from in any::<prop::sample::Index>(),
    ) {
        let written = lines.iter().enumerate().map(|(number, line)| write(preset, number, line));
        let file = written.collect::<Vec<_>>().concat();
        let framing = following(preset, max_line);
        let cuts = [file.len() as u64];
        let whole = tail_framed(&framing, &file, &[], 0, &cuts);
        prop_assert_eq!(&whole, &tail_framed(&framing, &file, &sizes, 0, &cuts));
        let boundary = if whole.is_empty() { 0 } else { from.index(whole.len() + 1) };
        let at = if boundary == 0 { 0 } else { whole[boundary - 1].0 };
        prop_assert_eq!(&whole[boundary..], &tail_framed(&framing, &file, &again, at, &cuts)[..]);

        prop_assert_eq!(whole.last().map_or(0, |last| last.0), file.len() as u64);
        let mut start = 0;
        let mut before: Option<(String, bool, usize)> = None;
        let mut told = std::collections::BTreeMap::<String, Vec<u8>>::new();
        for (end, record, _) in &whole {
            let bytes = &file[usize::try_from(start).unwrap()..usize::try_from(*end).unwrap()];
            let (time, stream, text, goes_on) = read(preset, record);
            // The time is that of its first part.
            prop_assert!(bytes.escape_ascii().to_string().contains(&time));
            let first = bytes.split(|byte| *byte == b'\n').next().unwrap();
            prop_assert_eq!(&read(preset, first).0, &time);
            // Parts that could be one record are one.
            if let Some((_, _, len)) = before.filter(|(of, on, _)| *of == stream && *on) {
                prop_assert!(len + first.len() > max_line);
            }
            before = Some((stream.clone(), goes_on, bytes.len()));
            let said = told.entry(stream).or_default();
            said.extend_from_slice(&text);
            said.extend_from_slice(if goes_on { b"" } else { b"\n" });
            start = *end;
        }
        for stream in ["stdout", "stderr"] {
            let of = lines.iter().filter(|line| line.stream == stream);
            let end = |line: &Written| if line.goes_on { &b""[..] } else { b"\n" };
            let all: Vec<u8> = of.flat_map(|line| [&line.text[..], end(line)].concat()).collect();
            prop_assert_eq!(told.remove(stream).unwrap_or_default(), all);
        }
    }
}
