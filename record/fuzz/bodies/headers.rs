//! Any headers, one a line: the first byte says which (`s`, `p`, `k` and `v` are headwater's four, in capitals
//! without a value, anything else is somebody's own), the rest is its value. What must hold: they are
//! refused, nobody's, or an identity that is written the same again; and neither the order of them nor what
//! stands beside them changes it.

use headwater_record::headers::{
    self, HeaderError, KIND, SPAN, STREAM, SpanHeader, Tag, VERSION, decode,
};

type Header<'a> = (&'a str, Option<&'a [u8]>);

fn header(line: &[u8]) -> Option<Header<'_>> {
    let (which, value) = line.split_first()?;
    let name = match which.to_ascii_lowercase() {
        b's' => STREAM,
        b'p' => SPAN,
        b'k' => KIND,
        b'v' => VERSION,
        // Its value names it: `hw-x`, `HW-span`, nothing at all.
        _ => return Some((std::str::from_utf8(value).unwrap_or("x"), Some(value))),
    };
    Some((name, which.is_ascii_lowercase().then_some(value)))
}

fn read<'a>(headers: &[Header<'a>]) -> Result<Option<Tag<'a>>, HeaderError> {
    decode(headers.iter().copied())
}

pub(crate) fn run(bytes: &[u8]) {
    let all: Vec<_> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(header)
        .collect();
    let result = read(&all);
    let ours = |name: &str| [STREAM, SPAN, KIND, VERSION].contains(&name);
    let own: Vec<_> = all.iter().copied().filter(|(name, _)| ours(name)).collect();
    assert_eq!(read(&own), result, "what is not ours changes nothing");
    let mut turned = own.clone();
    turned.reverse();
    match &result {
        Ok(_) => assert_eq!(read(&turned), result, "nor does the order"),
        Err(_) => assert!(read(&turned).is_err()),
    }
    let count = |wanted: &str| own.iter().filter(|(name, _)| *name == wanted).count();
    let is_text =
        |value: Option<&[u8]>| value.is_some_and(|value| std::str::from_utf8(value).is_ok());
    match result {
        Err(_) => {}
        Ok(None) => assert_eq!((count(STREAM), count(SPAN), count(KIND)), (0, 0, 0)),
        Ok(Some(tag)) => {
            assert!(own.iter().all(|(_, value)| is_text(*value)));
            assert_eq!((count(STREAM), count(SPAN)), (1, 1));
            assert!(count(KIND) <= 1 && count(VERSION) <= 1);
            assert_eq!(
                tag.stream,
                format!("{}/{}/{}", tag.device, tag.source, tag.path)
            );
            assert!(tag.span.start() <= tag.span.end());
            assert!(tag.kind != headers::Kind::Data || !tag.span.is_empty());
            let span = SpanHeader::new(tag.generation, tag.span);
            let again = [
                (STREAM, Some(tag.stream.as_bytes())),
                (SPAN, Some(span.as_bytes())),
            ];
            let kind = tag.kind.header().map(|kind| (KIND, Some(kind.as_bytes())));
            let again: Vec<_> = again.into_iter().chain(kind).collect();
            assert_eq!(read(&again), Ok(Some(tag)));
        }
    }
}
