//! What a group holds beside its offsets, whatever it is: metadata that are not UTF-8 are such as no loader wrote,
//! and stop their partition alone. And whether the group has taken us in.

use std::collections::BTreeMap;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{
    rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
    rd_kafka_consumer_group_metadata_generation_id,
};
use rdkafka::client::{Client, ClientContext};

/// Metadata of a topic's partitions; what is not UTF-8 in them is replaced. Those that have none are left out.
pub(crate) fn of(list: &TopicPartitionList) -> BTreeMap<i32, String> {
    let list_ptr = list.ptr();
    // SAFETY: the list is borrowed, so it is alive, and nobody changes it; librdkafka keeps `cnt` elements at
    // `elems`, which is null where there are none.
    let elements = unsafe {
        let (elements, n) = ((*list_ptr).elems, (*list_ptr).cnt);
        match (elements.is_null(), usize::try_from(n)) {
            (false, Ok(n)) => std::slice::from_raw_parts(elements, n),
            _ => &[],
        }
    };
    let held = elements.iter().filter(|held| !held.metadata.is_null());
    held.map(|held| {
        // SAFETY: `metadata` is of `metadata_size` bytes, and lives as long as the list.
        let bytes =
            unsafe { std::slice::from_raw_parts(held.metadata.cast::<u8>(), held.metadata_size) };
        (held.partition, String::from_utf8_lossy(bytes).into_owned())
    })
    .collect()
}

/// Whether the group has taken this consumer in, be it with nothing for it.
pub(crate) fn is_member<C: ClientContext>(client: &Client<C>) -> bool {
    // SAFETY: `client` is borrowed, so its handle is alive during the call; what comes of it is nobody else's, and
    // is destroyed once, behind the last look at it.
    unsafe {
        let told = rd_kafka_consumer_group_metadata(client.native_ptr());
        if told.is_null() {
            return false;
        }
        let generation = rd_kafka_consumer_group_metadata_generation_id(told);
        rd_kafka_consumer_group_metadata_destroy(told);
        generation > 0
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use rdkafka::bindings::rd_kafka_mem_malloc;

    use super::*;
    use crate::partition::intent::Committed;

    #[test]
    fn what_is_not_utf_8_is_foreign_and_no_panic() {
        let mut list = TopicPartitionList::new();
        assert_eq!(of(&list), BTreeMap::new());
        for partition in [3, 4, 5] {
            list.add_partition("logs", partition);
        }
        let written: &[u8] = b"{\"v\":1}\xff\xfe";
        let mut known = list.find_partition("logs", 4).unwrap();
        known.set_metadata("{\"v\":1}");
        // SAFETY: the list has three elements; what the first gets is of librdkafka's own allocator, of that
        // size, and freed with the list.
        unsafe {
            let first = (*list.ptr()).elems;
            (*first).metadata = rd_kafka_mem_malloc(ptr::null_mut(), written.len());
            (*first).metadata_size = written.len();
            ptr::copy_nonoverlapping(written.as_ptr(), (*first).metadata.cast(), written.len());
        }
        let held = of(&list);
        let expected = [(3, "{\"v\":1}\u{fffd}\u{fffd}"), (4, "{\"v\":1}")];
        let expected = expected.map(|(partition, text)| (partition, text.to_owned()));
        assert_eq!(held, BTreeMap::from(expected));
        assert!(Committed::parse(7, &held[&3]).is_err());
        assert!(Committed::parse(7, &held[&4]).is_ok());
    }
}
