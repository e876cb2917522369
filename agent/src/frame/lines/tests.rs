use proptest::prelude::*;

use super::*;

/// A line as tests write it: end, content, `>` where it continues, `<` where it is continued.
type Seen = (u64, Vec<u8>, &'static str);

fn seen(line: Line<'_>) -> Seen {
    let mark = match (line.piece.continued, line.piece.continues) {
        (false, false) => "",
        (false, true) => ">",
        (true, true) => "<>",
        (true, false) => "<",
    };
    (line.end, line.bytes.to_vec(), mark)
}

fn frame(bytes: &[u8], max_line: usize, cut: Option<u64>) -> Vec<Seen> {
    Lines::new(bytes, 0, false, max_line, cut)
        .map(seen)
        .collect()
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
    assert_eq!(Lines::new(b"x", 5, true, 9, Some(5)).next(), None);
}

/// Reads like a tailer: chunks of the given sizes, each from where the last line ended.
fn tail(bytes: &[u8], sizes: &[usize], from: u64, max_line: usize, cut: Option<u64>) -> Vec<Seen> {
    let (mut lines, mut at) = (Vec::new(), from);
    let index = |offset: u64| usize::try_from(offset).unwrap();
    let mut visible = index(from);
    for size in sizes.iter().copied().chain([bytes.len()]) {
        visible = bytes.len().min(visible + size);
        loop {
            let inside = at > 0 && bytes[index(at) - 1] != b'\n';
            let chunk_end = visible.min(index(at) + max_line + LOOK_AHEAD);
            let mut chunk = Lines::new(&bytes[index(at)..chunk_end], at, inside, max_line, cut);
            lines.extend(chunk.by_ref().map(seen));
            if chunk.offset() == at {
                break;
            }
            at = chunk.offset();
            let inside = at > 0 && bytes[index(at) - 1] != b'\n';
            assert_eq!(chunk.inside(), inside);
        }
    }
    lines
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
    fn text_stays_text(text in "[a-zé€\u{1F980}\n]{0,60}", max_line in 4_usize..12) {
        for (_, content, _) in tail(text.as_bytes(), &[], 0, max_line, None) {
            prop_assert!(std::str::from_utf8(&content).is_ok());
        }
    }
}
