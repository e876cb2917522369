//! A message's headers, whatever they are called: one whose name is not UTF-8 is none of ours, and is passed over.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

use rdkafka::bindings::{rd_kafka_header_get_all, rd_kafka_message_headers};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::{RDKafkaHeaders, RDKafkaRespErr};

/// The headers of a message whose names are UTF-8, in their order.
#[derive(Debug)]
pub(crate) struct Headers<'m> {
    list: *mut RDKafkaHeaders,
    next: usize,
    message: PhantomData<&'m BorrowedMessage<'m>>,
}

/// A message's headers; none where it has none, or where librdkafka cannot read them.
pub(crate) fn of<'m>(message: &'m BorrowedMessage<'_>) -> Option<Headers<'m>> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is borrowed, so it is alive; librdkafka writes the one pointer, and keeps what
    // it points to for as long as the message lives.
    let code = unsafe { rd_kafka_message_headers(message.ptr(), &raw mut list) };
    let are_there = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !list.is_null();
    are_there.then_some(Headers {
        list,
        next: 0,
        message: PhantomData,
    })
}

impl<'m> Iterator for Headers<'m> {
    type Item = (&'m str, Option<&'m [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (mut name, mut value, mut bytes) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `list` is alive while `'m` is; the three places are of this frame.
            let code = unsafe {
                rd_kafka_header_get_all(
                    self.list,
                    self.next,
                    &raw mut name,
                    &raw mut value,
                    &raw mut bytes,
                )
            };
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return None;
            }
            self.next += 1;
            // SAFETY: librdkafka ends a name with NUL, and keeps it as long as the list.
            let name = unsafe { CStr::from_ptr(name) };
            let Ok(name) = name.to_str() else {
                continue;
            };
            let value = (!value.is_null()).then(|| {
                // SAFETY: `value` is of `bytes` bytes, and lives as long as the list.
                unsafe { std::slice::from_raw_parts(value.cast::<u8>(), bytes) }
            });
            return Some((name, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_headers_destroy, rd_kafka_headers_new};

    #[test]
    fn a_name_that_is_not_utf_8_is_passed_over() {
        let all: [(&[u8], Option<&[u8]>); 5] = [
            (b"a", Some(b"1")),
            (b"\xff\xfe", Some(b"2")),
            (b"", Some(b"")),
            (b"hw-\x80", None),
            (b"b", None),
        ];
        // SAFETY: a list of this test's own, with pointers and lengths of slices; it is destroyed once,
        // behind the last use.
        let list = unsafe {
            let list = rd_kafka_headers_new(all.len());
            for (name, value) in all {
                let (value, bytes) =
                    value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
                let (name, length) = (name.as_ptr(), name.len());
                rd_kafka_header_add(
                    list,
                    name.cast(),
                    length.try_into().unwrap(),
                    value.cast(),
                    bytes.try_into().unwrap(),
                );
            }
            list
        };
        let headers = Headers {
            list,
            next: 0,
            message: PhantomData,
        };
        let read: Vec<_> = headers.collect();
        let one: &[u8] = b"1";
        assert_eq!(read, [("a", Some(one)), ("", Some(&[][..])), ("b", None)]);
        // SAFETY: see above.
        unsafe { rd_kafka_headers_destroy(list) };
    }
}
