use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::frame::encoding::NUL_RUN;

mod containers;

/// A record as tests write it: end, text, `>` where it continues, `<` where it is continued, `0` for
/// NULs.
type Seen = (u64, Vec<u8>, &'static str);

fn seen(frame: Frame<'_>) -> Seen {
    let FrameKind::Line(line) = frame.kind else {
        return (frame.end, Vec::new(), "0");
    };
    let mark = match (line.piece.continued, line.piece.continues) {
        (false, false) => "",
        (false, true) => ">",
        (true, true) => "<>",
        (true, false) => "<",
    };
    (frame.end, line.text.bytes.into_owned(), mark)
}

fn framing(label: &str, max_line: usize) -> Framing {
    Framing {
        encoding: Encoding::parse(label).unwrap(),
        max_line,
        multiline: None,
        at_cut: AtCut::Complete,
    }
}

/// The records of all of `bytes`.
fn framed(framing: &Framing, bytes: &[u8], cuts: &[u64]) -> Vec<Seen> {
    let chunk = Chunk {
        bytes,
        start: 0,
        inside: false,
        nuls_until: None,
    };
    let encoding = framing.encoding.resolve(bytes);
    Frames::new(framing, encoding, chunk, cuts)
        .map(seen)
        .collect()
}

fn frame(bytes: &[u8], max_line: usize, cut: Option<u64>) -> Vec<Seen> {
    let cuts: Vec<_> = cut.into_iter().collect();
    framed(&framing("utf-8", max_line), bytes, &cuts)
}

#[test]
fn lines_end_at_lf_or_crlf() {
    let check = |input: &[u8], expected: &[(u64, &str, &'static str)]| {
        let expected: Vec<Seen> = (expected.iter())
            .map(|(end, text, mark)| (*end, text.as_bytes().to_vec(), *mark))
            .collect();
        assert_eq!(
            frame(input, 4, None),
            expected,
            "{:?}",
            input.escape_ascii()
        );
    };
    check(b"", &[]);
    check(b"ab", &[]);
    check(b"ab\ncd\n", &[(3, "ab", ""), (6, "cd", "")]);
    check(b"ab\r\n\r\n\n", &[(4, "ab", ""), (6, "", ""), (7, "", "")]);
    check(b"a\rb\n", &[(4, "a\rb", "")]);
    check(b"a\r\r\n", &[(4, "a\r", "")]);
    // The longest line is one record, with either end mark.
    check(b"abcd\n", &[(5, "abcd", "")]);
    check(b"abcd\r\n", &[(6, "abcd", "")]);
    // While it is not known what follows, nothing is given.
    check(b"abcd", &[]);
    check(b"abcd\r", &[]);
    check(b"abcde", &[]);
    check(b"abcd\re", &[(4, "abcd", ">")]);
    // Longer ones go in pieces, and the last is never empty.
    check(b"abcde\n", &[(4, "abcd", ">"), (6, "e", "<")]);
    check(b"abcdefgh\n", &[(4, "abcd", ">"), (9, "efgh", "<")]);
    check(b"abcdefgh\r\n", &[(4, "abcd", ">"), (10, "efgh", "<")]);
    check(
        b"abcdefghi\n",
        &[(4, "abcd", ">"), (8, "efgh", "<>"), (10, "i", "<")],
    );
}

#[test]
fn no_piece_ends_inside_a_character() {
    // 3 bytes each: a piece of 4 holds one.
    let text = "€€€\n";
    let pieces = frame(text.as_bytes(), 4, None);
    let ends: Vec<u64> = pieces.iter().map(|(end, ..)| *end).collect();
    assert_eq!(ends, [3, 6, 10]);
    // 4 bytes each, and the longest way back.
    assert_eq!(frame("abc\u{1F980}\n".as_bytes(), 6, None)[0].0, 3);
    // Not UTF-8: the piece is as long as it may be.
    assert_eq!(frame(&[0x80; 7], 4, None)[0].0, 4);
}

#[test]
fn a_cut_ends_a_line() {
    let text = |seen: Vec<Seen>| -> Vec<(u64, String, &'static str)> {
        (seen.into_iter())
            .map(|(end, bytes, mark)| (end, String::from_utf8(bytes).unwrap(), mark))
            .collect()
    };
    let line = |end, text: &str, mark| (end, text.to_owned(), mark);
    assert_eq!(
        text(frame(b"a\nbc", 9, Some(4))),
        [line(2, "a", ""), line(4, "bc", "")]
    );
    // What was written behind it goes on as the line that it belongs to.
    assert_eq!(
        text(frame(b"a\nbcd\n", 9, Some(4))),
        [line(2, "a", ""), line(4, "bc", ""), line(6, "d", "<")]
    );
    // A CR before a cut is a byte like any other; so is one torn from its LF.
    assert_eq!(
        text(frame(b"a\r\n", 9, Some(2))),
        [line(2, "a\r", ""), line(3, "", "<")]
    );
    // Longer than a line may be: pieces, then the rest up to the cut.
    assert_eq!(
        text(frame(b"abcde", 4, Some(5))),
        [line(4, "abcd", ">"), line(5, "e", "<")]
    );
    // A cut on a boundary, before the chunk, or not reached yet changes nothing.
    assert_eq!(text(frame(b"a\nb", 9, Some(2))), [line(2, "a", "")]);
    assert_eq!(text(frame(b"a\nb", 9, Some(7))), [line(2, "a", "")]);
}

/// Reads like a tailer: chunks of the given sizes, each from where the last record ended, and as
/// long as a record may need.
fn tail_framed(
    framing: &Framing,
    bytes: &[u8],
    sizes: &[usize],
    from: u64,
    cuts: &[u64],
) -> Vec<Seen> {
    let (mut records, mut at) = (Vec::new(), from);
    let index = |offset: u64| usize::try_from(offset).unwrap();
    let encoding = framing.encoding.resolve(bytes);
    let mut visible = index(from);
    for size in sizes.iter().copied().chain([bytes.len()]) {
        visible = bytes.len().min(visible + size);
        loop {
            let mut chunk_end = visible.min(index(at) + framing.chunk_bytes_max());
            let nuls_until = (bytes[chunk_end..visible].iter())
                .position(|byte| *byte != 0)
                .map(|len| (chunk_end + len) as u64)
                .or(cuts
                    .iter()
                    .copied()
                    .find(|cut| (chunk_end as u64..=visible as u64).contains(cut)));
            chunk_end = chunk_end.max(index(at));
            let chunk = Chunk {
                bytes: &bytes[index(at)..chunk_end],
                start: at,
                inside: encoding.is_inside(&bytes[..index(at)]),
                nuls_until: nuls_until.filter(|_| chunk_end < visible),
            };
            let mut frames = Frames::new(framing, encoding, chunk, cuts);
            records.extend(frames.by_ref().map(seen));
            if frames.offset() == at {
                break;
            }
            at = frames.offset();
            let inside = encoding.is_inside(&bytes[..index(at)]);
            assert_eq!(frames.inside(), inside);
        }
    }
    records
}

fn tail(bytes: &[u8], sizes: &[usize], from: u64, max_line: usize, cut: Option<u64>) -> Vec<Seen> {
    let cuts: Vec<_> = cut.into_iter().collect();
    tail_framed(&framing("utf-8", max_line), bytes, sizes, from, &cuts)
}

#[test]
fn text_of_any_encoding_has_exact_spans() {
    let check = |label: &str, bytes: &[u8], expected: &[(u64, &str)]| {
        let given = framed(&framing(label, 64), bytes, &[]);
        let expected: Vec<Seen> = (expected.iter())
            .map(|(end, text)| (*end, text.as_bytes().to_vec(), ""))
            .collect();
        assert_eq!(given, expected, "{label}");
    };
    check("utf-8", b"\xef\xbb\xbfa\r\nb\n", &[(6, "a"), (8, "b")]);
    check(
        "utf-16",
        b"\xff\xfea\0\r\0\n\0b\0\n\0",
        &[(8, "a"), (12, "b")],
    );
    check(
        "utf-16",
        b"\xfe\xff\0a\0\n\x0a\x0a\0\n",
        &[(6, "a"), (10, "\u{a0a}")],
    );
    check("utf-16be", b"\0a\0\n", &[(4, "a")]);
    check("latin1", b"caf\xe9\r\n\n", &[(6, "café"), (7, "")]);
    check("shift_jis", b"\x83\x65\x83\x58\x83\x67\n", &[(7, "テスト")]);
    check("gbk", b"\xb2\xe2\n\xca\xd4\n", &[(3, "测"), (6, "试")]);
    // No mark is taken off anywhere else.
    check(
        "utf-8",
        b"a\n\xef\xbb\xbfb\n",
        &[(2, "a"), (7, "\u{feff}b")],
    );
}

#[test]
fn malformed_bytes_are_kept_beside_the_text() {
    let framing = framing("shift_jis", 64);
    let chunk = Chunk {
        bytes: b"a\x83\nb\n",
        start: 0,
        inside: false,
        nuls_until: None,
    };
    let mut frames = Frames::new(&framing, framing.encoding.resolve(b""), chunk, &[]);
    let FrameKind::Line(line) = frames.next().unwrap().kind else {
        panic!("it is a line");
    };
    assert_eq!(line.text.raw, Some(&b"a\x83"[..]));
    assert_eq!(line.text.bytes, Cow::Borrowed("a\u{FFFD}".as_bytes()));
}

#[test]
fn nul_runs_are_skipped_and_accounted_for() {
    let nuls = [0; NUL_RUN + 3];
    let check = |parts: &[&[u8]], cut: Option<u64>, expected: &[(u64, &str, &'static str)]| {
        let expected: Vec<Seen> = (expected.iter())
            .map(|(end, text, mark)| (*end, text.as_bytes().to_vec(), *mark))
            .collect();
        assert_eq!(frame(&parts.concat(), 64, cut), expected, "{parts:?}");
    };
    // Between lines, and inside of one: what lies before is a line, what follows begins another.
    check(
        &[b"a\n", &nuls, b"b\n"],
        None,
        &[(2, "a", ""), (21, "", "0"), (23, "b", "")],
    );
    check(
        &[b"par", &nuls, b"b\n"],
        None,
        &[(3, "par", ""), (22, "", "0"), (24, "b", "")],
    );
    check(
        &[b"par", &nuls, b"\nb\n"],
        None,
        &[(3, "par", ""), (22, "", "0"), (23, "", ""), (25, "b", "")],
    );
    // As long as nothing follows, lines may be written there; at a cut nothing will.
    check(&[b"a\n", &nuls], None, &[(2, "a", "")]);
    check(&[b"a\npar", &nuls], None, &[(2, "a", "")]);
    check(
        &[b"a\npar", &nuls],
        Some(24),
        &[(2, "a", ""), (5, "par", ""), (24, "", "0")],
    );
    // Fewer are content.
    check(&[b"a\0\0b\n"], None, &[(5, "a\0\0b", "")]);
    check(
        &[&[0; NUL_RUN - 1], b"\n"],
        None,
        &[(16, &"\0".repeat(15), "")],
    );
}

fn gathering(rule: Multiline, max_line: usize) -> Framing {
    Framing {
        multiline: Some(rule),
        ..framing("utf-8", max_line)
    }
}

fn starting(pattern: &str) -> Multiline {
    Multiline::Start(pattern.parse().unwrap())
}

#[test]
fn lines_that_belong_together_are_one_record() {
    let framing = gathering(starting("^[0-9]"), 24);
    let check = |text: &str, cuts: &[u64], expected: &[(u64, &str, &'static str)]| {
        let expected: Vec<Seen> = (expected.iter())
            .map(|(end, text, mark)| (*end, text.as_bytes().to_vec(), *mark))
            .collect();
        assert_eq!(
            framed(&framing, text.as_bytes(), cuts),
            expected,
            "{text:?}"
        );
    };
    // The last event may go on.
    check("1 a\r\nb\r\n2 c\nd\n", &[], &[(8, "1 a\r\nb", "")]);
    check(
        "1 a\nb\n2 c\nd\n",
        &[12],
        &[(6, "1 a\nb", ""), (12, "2 c\nd", "")],
    );
    // Something may be written behind the cut: it is told as going on.
    check("1 a\nb\nc\n2\n", &[6], &[(6, "1 a\nb", ""), (8, "c", "<")]);
    check(
        "1 a\nb\n2 c\nd",
        &[6, 11],
        &[(6, "1 a\nb", ""), (11, "2 c\nd", "")],
    );
    // Longer than a record may be: pieces of whole lines, and a line that is too long by itself.
    check(
        "1 aaaaaaaaa\nbbbbbbbbbbb\nccccccccccc\n2\n",
        &[],
        &[
            (24, "1 aaaaaaaaa\nbbbbbbbbbbb", ">"),
            (36, "ccccccccccc", "<"),
        ],
    );
    check(
        "1\nbbbbbbbbbbbbbbbbbbbbbbbbbbbb\nc\n2\n",
        &[],
        &[
            (2, "1", ">"),
            (26, "bbbbbbbbbbbbbbbbbbbbbbbb", "<>"),
            (33, "bbbb\nc", "<"),
        ],
    );
    // What has no beginning is an event all the same.
    check("b\nc\n1\n", &[], &[(4, "b\nc", "")]);
}

#[test]
fn an_event_under_way_says_where_its_whole_lines_end() {
    let framing = gathering(starting("^[0-9]"), 64);
    let pending = |text: &str, cuts: &[u64]| {
        let chunk = Chunk {
            bytes: text.as_bytes(),
            start: 0,
            inside: false,
            nuls_until: None,
        };
        let encoding = framing.encoding.resolve(b"");
        let mut frames = Frames::new(&framing, encoding, chunk, cuts);
        while frames.next().is_some() {}
        frames.pending()
    };
    assert_eq!(pending("1 a\nb\n2 c\nd\ne", &[]), Some(12));
    assert_eq!(pending("1 a\nb\n2 c\nd\ne", &[12]), None);
    assert_eq!(pending("1 a", &[]), None);
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop_oneof![
        3 => Just(b"\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        3 => "[a-z]{1,6}".prop_map(String::into_bytes),
        2 => "[é€\u{1F980}]{1,4}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..6),
    ];
    prop::collection::vec(parts, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn framing_replays(
        bytes in bytes(),
        sizes in prop::collection::vec(0_usize..12, 0..20),
        again in prop::collection::vec(0_usize..12, 0..20),
        max_line in 4_usize..12,
        cut in prop::option::of(0_u64..80),
        from in any::<prop::sample::Index>(),
    ) {
        let cut = cut.filter(|cut| *cut <= bytes.len() as u64);
        let whole = tail(&bytes, &[], 0, max_line, cut);
        prop_assert_eq!(&whole, &tail(&bytes, &sizes, 0, max_line, cut));

        // From any boundary on, the rest is the same.
        let boundary = if whole.is_empty() { 0 } else { from.index(whole.len() + 1) };
        let at = if boundary == 0 { 0 } else { whole[boundary - 1].0 };
        prop_assert_eq!(&whole[boundary..], &tail(&bytes, &again, at, max_line, cut)[..]);
    }

    #[test]
    fn a_cut_changes_nothing_before_it(
        bytes in bytes(),
        more in bytes(),
        max_line in 4_usize..12,
    ) {
        let cut = Some(bytes.len() as u64);
        let before = tail(&bytes, &[], 0, max_line, None);
        let closed = tail(&bytes, &[], 0, max_line, cut);
        let grown = tail(&[bytes, more].concat(), &[], 0, max_line, cut);
        prop_assert_eq!(&closed[..before.len()], &before[..]);
        prop_assert_eq!(&grown[..closed.len()], &closed[..]);
    }

    #[test]
    fn every_byte_is_in_one_line(bytes in bytes(), max_line in 4_usize..12) {
        // Closed: the end is a cut, so nothing is left over.
        let lines = tail(&bytes, &[], 0, max_line, Some(bytes.len() as u64));
        let mut at = 0;
        for (end, content, mark) in &lines {
            let span = &bytes[at..usize::try_from(*end).unwrap()];
            prop_assert!(!span.is_empty() && content.len() <= max_line);
            let end_mark = span.strip_prefix(&content[..]).unwrap();
            let continues = mark.ends_with('>');
            prop_assert!(matches!(
                (end_mark, continues),
                (b"\n" | b"\r\n", false) | (b"", _)
            ));
            prop_assert!(!end_mark.is_empty() || continues || *end == bytes.len() as u64);
            at = usize::try_from(*end).unwrap();
        }
        prop_assert_eq!(at, bytes.len());
    }

    #[test]
    fn framing_replays_in_any_encoding_and_with_events(
        text in "[a-c0-2 \\t漢é\u{1F980}\n\r]{0,80}",
        nuls in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40), 0..3),
        label in prop::sample::select(vec!["utf-8", "utf-16", "utf-16be", "shift_jis", "gbk", "latin1"]),
        rule in prop::option::of(0_usize..7),
        sizes in prop::collection::vec(0_usize..40, 0..12),
        again in prop::collection::vec(0_usize..40, 0..12),
        max_line in NUL_RUN..40,
        cuts in prop::collection::btree_set(0_u64..120, 0..4),
        from in any::<prop::sample::Index>(),
    ) {
        use crate::frame::multiline::Preset;
        let mut bytes: Vec<u8> = match label {
            "utf-16" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            _ => encoding_rs::Encoding::for_label(label.as_bytes()).unwrap().encode(&text).0.into_owned(),
        };
        for (at, len) in nuls {
            let at = at.index(bytes.len() + 1);
            let unit = if label.starts_with("utf-16") { 2 } else { 1 };
            bytes.splice(at..at, std::iter::repeat_n(0, len * unit));
        }
        let rules = || vec![
            starting("^[0-9]"),
            Multiline::Continue(r"^\s".parse().unwrap()),
            Multiline::End("c$".parse().unwrap()),
            Multiline::Preset(Preset::Java),
            Multiline::Preset(Preset::Python),
            Multiline::Preset(Preset::Go),
            Multiline::Preset(Preset::Cri),
        ];
        let framing = Framing {
            multiline: rule.map(|n| rules().swap_remove(n)),
            ..framing(label, max_line & !1)
        };
        // Half a character is told as what it is, but whether it continues one is not.
        let cuts = cuts.into_iter().map(|cut| 2 * cut);
        let cuts: Vec<_> = cuts.filter(|cut| *cut <= bytes.len() as u64).collect();
        let whole = tail_framed(&framing, &bytes, &[], 0, &cuts);
        prop_assert_eq!(&whole, &tail_framed(&framing, &bytes, &sizes, 0, &cuts));
        let boundary = if whole.is_empty() { 0 } else { from.index(whole.len() + 1) };
        let at = if boundary == 0 { 0 } else { whole[boundary - 1].0 };
        let rest = tail_framed(&framing, &bytes, &again, at, &cuts);
        prop_assert_eq!(&whole[boundary..], &rest[..]);
        // Closed at its end, every byte is in a record.
        let closed: Vec<_> = cuts.iter().copied().chain([bytes.len() as u64]).collect();
        let all = tail_framed(&framing, &bytes, &sizes, 0, &closed);
        prop_assert_eq!(all.last().map_or(0, |last| last.0), bytes.len() as u64);
    }

    #[test]
    fn text_stays_text(text in "[a-zé€\u{1F980}\n]{0,60}", max_line in 4_usize..12) {
        for (_, content, _) in tail(text.as_bytes(), &[], 0, max_line, None) {
            prop_assert!(std::str::from_utf8(&content).is_ok());
        }
    }
}
