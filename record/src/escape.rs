//! Any bytes as a text that steps can look at, and the very same bytes from it again.
//!
//! A line that goes as it is (`value = "raw"`) need not be UTF-8, and what steps look at is text. So a
//! byte that is no part of a character stands in the text as a character of its own, of the private use
//! area behind which Unicode ends: whatever a pattern covers beside it, it is a byte again afterwards.
//!
//! ```text
//!   61  ff  c3 a9  62         a line: "a", a byte that is no UTF-8, "é", "b"
//!   a U+10FEFF  é  b          the text; patterns see four characters
//! ```
//!
//! Where a line has one of these characters itself, its bytes are escaped one by one. So any bytes come
//! back as they were.

use std::borrow::Cow;

/// What byte 0 would be; only bytes from 0x80 on are ever escaped.
const BASE: u32 = 0x10_FE00;

/// The text of any bytes. Nothing is copied where they are plain UTF-8.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains(is_escape)
    {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(bytes.len() + bytes.len() / 2);
    let mut buffer = [0; 4];
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if is_escape(letter) {
                escaped.extend(letter.encode_utf8(&mut buffer).bytes().map(escape));
            } else {
                escaped.push(letter);
            }
        }
        escaped.extend(chunk.invalid().iter().copied().map(escape));
    }
    Cow::Owned(escaped)
}

/// The bytes of such a text.
pub fn bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(is_escape) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for letter in text.chars() {
        match u8::try_from(u32::from(letter).wrapping_sub(BASE)) {
            Ok(byte) if byte >= 0x80 => bytes.push(byte),
            _ => bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

fn escape(byte: u8) -> char {
    debug_assert!(byte >= 0x80, "ASCII is never malformed");
    char::from_u32(BASE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_escape(letter: char) -> bool {
    (BASE + 0x80..=BASE + 0xff).contains(&u32::from(letter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_text_stands_for_itself() {
        assert!(matches!(text("a é €".as_bytes()), Cow::Borrowed("a é €")));
        assert_eq!(text(b"a\xff\xc3\xa9b"), "a\u{10feff}\u{e9}b");
        // One that looks like an escape is none.
        let own = "x\u{10feff}y";
        assert_ne!(text(own.as_bytes()), own);
        assert_eq!(bytes(&text(own.as_bytes())), own.as_bytes());
        // Beside it lie characters like any other.
        let beside = "\u{10fe7f}\u{10ff00}";
        assert_eq!(text(beside.as_bytes()), beside);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..8),
                    (0x10_fe70_u32..0x10_ff10).prop_map(|code| {
                        char::from_u32(code).unwrap().to_string().into_bytes()
                    }),
                    Just("é€".as_bytes().to_vec()),
                ],
                0..8,
            ),
        ) {
            let all = parts.concat();
            let text = text(&all);
            prop_assert_eq!(&*bytes(&text), &*all);
        }
    }
}
