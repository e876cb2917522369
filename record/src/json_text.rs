//! Text as a string of JSON: the bytes that `serde_json` writes (a property), found eight at a time.
//!
//! Nearly all of a line goes through as it is; what must be escaped (a quote, a backslash, a control character) is
//! rare. Looking at each byte for itself was a third of what the thread does that follows files (`docs/benchmarks.md`).

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// Writes `text` in quotes.
pub(crate) fn write(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = first_to_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        write_escaped(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn must_be_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Where the first byte stands that a string cannot hold as it is.
fn first_to_escape(text: &[u8]) -> Option<usize> {
    let (words, _) = text.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let found = to_escape_in(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(n * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let whole = words.len() * 8;
    let last = text[whole..].iter().position(|byte| must_be_escaped(*byte));
    last.map(|at| whole + at)
}

/// The high bit of each byte that is to be escaped; of those above the lowest that has it, some may have it without
/// cause (a borrow). `x - 1` of a byte has its high bit, and `x` has not, where `x` is 0; `x - 32` where `x` is below
/// 32: see "Bit Twiddling Hacks", Sean Eron Anderson.
fn to_escape_in(word: u64) -> u64 {
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
    let quote = is_zero(word ^ (ONES * u64::from(b'"')));
    let backslash = is_zero(word ^ (ONES * u64::from(b'\\')));
    (control | quote | backslash) & HIGH
}

fn write_escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_character_is_written_as_serde_json_does_wherever_it_stands() {
        for code in 0..0x900 {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            for before in 0..17 {
                let text = format!("{}{character}\u{ff}tail", "x".repeat(before));
                assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_does(text in "([ -~]|\\PC|[\"\\\\\u{0}-\u{1f}]){0,60}") {
            prop_assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
        }
    }
}
