//! The Kafka headers that carry a record's identity. Short text, chosen by measurement: two on a
//! data record (`hw-stream`, `hw-span`), `hw-kind` only on notices, `hw-v` only when it is not 1.
//!
//! ```text
//! hw-stream  <device>/<source>/<path or sensor>          pi-7/syslog//var/log/syslog
//! hw-span    <generation>:<start>+<length>               9f3c5a1e00d2b744:1048576+187
//! hw-kind    loss | close | filtered
//! hw-v       1 (absent); anything else is refused, never guessed
//! ```
//!
//! Headers come from the network: any bytes decode or are refused, without a panic and without an
//! allocation.

use std::io::Write;

use thiserror::Error;

use crate::names::{Generation, NameError, split_stream};
use crate::span::Span;

/// Header name of the stream.
pub const STREAM: &str = "hw-stream";
/// Header name of generation and span.
pub const SPAN: &str = "hw-span";
/// Header name of the kind, on notices only.
pub const KIND: &str = "hw-kind";
/// Header name of the wire version, absent while it is 1.
pub const VERSION: &str = "hw-v";

/// Longest `hw-span`: 16 hex digits, two separators and two 20-digit numbers.
const SPAN_BYTES_MAX: usize = 16 + 1 + 20 + 1 + 20;

/// What a record is: data, or a notice that carries accounting instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A line or a sample.
    Data,
    /// A range that will not come, and why.
    Loss,
    /// A generation's final offset: nothing comes after it.
    Close,
    /// A long range that holds nothing but what the owner's configuration dropped. A short one needs
    /// none: the next record's span covers it.
    Filtered,
}

impl Kind {
    /// The `hw-kind` header's value; none for data.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::Data => None,
            Self::Loss => Some("loss"),
            Self::Close => Some("close"),
            Self::Filtered => Some("filtered"),
        }
    }
}

/// The identity that a record's headers carry. Borrows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The whole stream name, already checked.
    pub stream: &'a str,
    /// Its device.
    pub device: &'a str,
    /// Its source.
    pub source: &'a str,
    /// Its path or sensor.
    pub path: &'a str,
    /// Which file, or which start.
    pub generation: Generation,
    /// What the record accounts for.
    pub span: Span,
    /// Data or notice.
    pub kind: Kind,
}

/// Why headers were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// A wire version of another time.
    #[error("hw-v is not 1: this loader is older than the agent that wrote the record")]
    Version,
    /// One of a pair without the other.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The same header twice.
    #[error("{0} stands twice")]
    Repeated(&'static str),
    /// Not UTF-8, or no value.
    #[error("{0} is not text")]
    NotText(&'static str),
    /// The stream's name is malformed.
    #[error("hw-stream: {0}")]
    Stream(NameError),
    /// The span is malformed.
    #[error("hw-span is not <generation>:<start>+<length>")]
    Span,
    /// A data record that accounts for nothing. No agent writes one: to the ledger all of it would have
    /// come, and it would be skipped as a re-send.
    #[error("hw-span is empty, and only a notice may be of nothing")]
    Empty,
    /// A kind that this version does not know.
    #[error("hw-kind is none of loss, close and filtered")]
    Kind,
}

/// The `hw-span` value in a buffer of its own, so that writing one allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct SpanHeader {
    bytes: [u8; SPAN_BYTES_MAX],
    len: usize,
}

impl SpanHeader {
    /// Writes `<generation>:<start>+<length>`.
    pub fn new(generation: Generation, span: Span) -> Self {
        let mut bytes = [0; SPAN_BYTES_MAX];
        let mut rest: &mut [u8] = &mut bytes;
        let written = write!(rest, "{generation}:{}+{}", span.start(), span.len());
        debug_assert!(written.is_ok(), "SPAN_BYTES_MAX holds the longest");
        let len = SPAN_BYTES_MAX - rest.len();
        Self { bytes, len }
    }

    /// The header's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads the identity from a record's headers: `None` where no `hw-` header stands among them (the
/// record was written by somebody else, and passes through).
///
/// # Errors
/// Headers that begin with `hw-` but are incomplete, repeated or malformed.
pub fn decode<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Result<Option<Tag<'a>>, HeaderError> {
    let (mut stream, mut span, mut kind, mut version) = (None, None, None, None);
    for (name, value) in headers {
        let (slot, name) = match name {
            STREAM => (&mut stream, STREAM),
            SPAN => (&mut span, SPAN),
            KIND => (&mut kind, KIND),
            VERSION => (&mut version, VERSION),
            _ => continue,
        };
        let text = value
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or(HeaderError::NotText(name))?;
        if slot.replace(text).is_some() {
            return Err(HeaderError::Repeated(name));
        }
    }
    if version.is_some_and(|version| version != "1") {
        return Err(HeaderError::Version);
    }
    let (stream, span) = match (stream, span) {
        (Some(stream), Some(span)) => (stream, span),
        (None, None) if kind.is_none() => return Ok(None),
        (None, _) => return Err(HeaderError::Missing(STREAM)),
        (_, None) => return Err(HeaderError::Missing(SPAN)),
    };
    let kind = match kind {
        None => Kind::Data,
        Some("loss") => Kind::Loss,
        Some("close") => Kind::Close,
        Some("filtered") => Kind::Filtered,
        Some(_) => return Err(HeaderError::Kind),
    };
    let (device, source, path) = split_stream(stream).map_err(HeaderError::Stream)?;
    let (generation, span) = parse_span(span).ok_or(HeaderError::Span)?;
    if kind == Kind::Data && span.is_empty() {
        return Err(HeaderError::Empty);
    }
    Ok(Some(Tag {
        stream,
        device,
        source,
        path,
        generation,
        span,
        kind,
    }))
}

fn parse_span(text: &str) -> Option<(Generation, Span)> {
    let (generation, range) = text.split_once(':')?;
    let (start, length) = range.split_once('+')?;
    let start = parse_number(start)?;
    let end = start.checked_add(parse_number(length)?)?;
    Some((generation.parse().ok()?, Span::new(start, end)?))
}

/// Decimal digits only: `u64::from_str` alone would take a sign.
fn parse_number(text: &str) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_pairs<'a>(pairs: &'a [(&'a str, &'a [u8])]) -> Result<Option<Tag<'a>>, HeaderError> {
        decode(pairs.iter().map(|(name, value)| (*name, Some(*value))))
    }

    #[test]
    fn the_golden_record() {
        let span = Span::new(1_048_576, 1_048_763).unwrap();
        let generation = Generation(0x9f3c_5a1e_00d2_b744);
        let header = SpanHeader::new(generation, span);
        assert_eq!(header.as_bytes(), b"9f3c5a1e00d2b744:1048576+187");
        let pairs: [(&str, &[u8]); 3] = [
            ("trace", b"kept out of it"),
            (STREAM, b"pi-7/syslog//var/log/syslog"),
            (SPAN, header.as_bytes()),
        ];
        let tag = decode_pairs(&pairs).unwrap().unwrap();
        assert_eq!(
            (tag.device, tag.source, tag.path),
            ("pi-7", "syslog", "/var/log/syslog")
        );
        assert_eq!(
            (tag.generation, tag.span, tag.kind),
            (generation, span, Kind::Data)
        );
    }

    #[test]
    fn foreign_records_pass_and_broken_ones_are_refused() {
        let (stream, span): (&[u8], &[u8]) = (b"d/s/p", b"0000000000000001:0+1");
        assert_eq!(decode_pairs(&[("other", b"x")]), Ok(None));
        for (pairs, error) in [
            (vec![(STREAM, stream)], HeaderError::Missing(SPAN)),
            (vec![(SPAN, span)], HeaderError::Missing(STREAM)),
            (vec![(KIND, &b"loss"[..])], HeaderError::Missing(STREAM)),
            (
                vec![(STREAM, stream), (STREAM, stream), (SPAN, span)],
                HeaderError::Repeated(STREAM),
            ),
            (
                vec![(STREAM, &b"\xff"[..]), (SPAN, span)],
                HeaderError::NotText(STREAM),
            ),
            (
                vec![(STREAM, stream), (SPAN, &b"1:0+1"[..])],
                HeaderError::Span,
            ),
            (
                vec![(STREAM, stream), (SPAN, &b"0000000000000001:-1+1"[..])],
                HeaderError::Span,
            ),
            (
                vec![
                    (STREAM, stream),
                    (SPAN, &b"0000000000000001:18446744073709551615+1"[..]),
                ],
                HeaderError::Span,
            ),
            (
                vec![(STREAM, stream), (SPAN, &b"0000000000000001:7+0"[..])],
                HeaderError::Empty,
            ),
            (
                vec![(STREAM, stream), (SPAN, span), (KIND, &b"data"[..])],
                HeaderError::Kind,
            ),
            (
                vec![(STREAM, stream), (SPAN, span), (VERSION, &b"2"[..])],
                HeaderError::Version,
            ),
        ] {
            assert_eq!(decode_pairs(&pairs), Err(error));
        }
    }

    #[test]
    fn a_notice_may_be_of_nothing() {
        let span: &[u8] = b"0000000000000001:7+0";
        for kind in [Kind::Loss, Kind::Close, Kind::Filtered] {
            let kind_header = kind.header().unwrap().as_bytes();
            let pairs = [(STREAM, &b"d/s/p"[..]), (SPAN, span), (KIND, kind_header)];
            let tag = decode_pairs(&pairs).unwrap().unwrap();
            assert_eq!((tag.kind, tag.span), (kind, Span::empty_at(7)));
        }
    }

    proptest! {
        #[test]
        fn spans_round_trip(generation: u64, a: u64, b: u64) {
            let span = Span::new(a.min(b), a.max(b)).unwrap();
            let header = SpanHeader::new(Generation(generation), span);
            let pairs: [(&str, &[u8]); 2] = [(STREAM, b"d/s/p"), (SPAN, header.as_bytes())];
            let tag = decode_pairs(&pairs);
            if span.is_empty() {
                prop_assert_eq!(tag, Err(HeaderError::Empty));
                return Ok(());
            }
            let tag = tag.unwrap().unwrap();
            prop_assert_eq!((tag.generation, tag.span), (Generation(generation), span));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(
            headers in prop::collection::vec(
                (
                    prop::sample::select(vec![STREAM, SPAN, KIND, VERSION, "x"]),
                    prop::option::of(prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..80),
                        "[0-9a-f]{16}:[0-9]{1,21}\\+[0-9]{1,21}".prop_map(String::into_bytes),
                        "[a-z]{0,3}/[a-z]{0,3}/.{0,9}".prop_map(String::into_bytes),
                    ]),
                ),
                0..6,
            )
        ) {
            let decoded = decode(headers.iter().map(|(name, value)| (*name, value.as_deref())));
            if let Ok(Some(tag)) = decoded {
                prop_assert!(tag.span.start() <= tag.span.end());
                prop_assert!(tag.kind != Kind::Data || !tag.span.is_empty());
            }
        }
    }
}
