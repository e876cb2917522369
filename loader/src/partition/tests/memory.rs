//! What partitions hold that is in nobody's sum.

use super::*;
use crate::encode::{Compression, Making};
use crate::pipeline::PipelineSpec;

const PARTITIONS: i32 = 200;
const MIB: usize = 1024 * 1024;

/// Contexts of compression and buffers of frames are as many as threads that compress, not as partitions; and no buffer
/// that one huge record wanted is kept.
#[test]
fn partitions_share_what_they_compress_with() {
    let making = Arc::<Making>::default();
    let steps = "[[transform]]\nstep='rename'\nfrom='message'\nto='text'\n";
    let spec = PipelineSpec {
        compression: Compression::Zstd,
        ..pipeline(steps, "all").spec().clone()
    };
    let pipeline = Arc::new(Pipeline::new(spec, |_| None).unwrap());
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let record = |bytes: usize| {
        let mut fetched = Fetched::default();
        let value = format!(r#"{{"message":"{}"}}"#, "x".repeat(bytes));
        fetched.push(0, 0, Some(value.as_bytes()), Identity::Foreign);
        fetched
    };
    // Each ends a frame at once.
    let (large, huge) = (record(MIB / 2), record(10 * MIB));
    let mut open = Vec::new();
    for id in 0..PARTITIONS {
        let bounds = Bounds {
            limits: Limits::NONE,
            making: Arc::clone(&making),
        };
        let (committed, state) = (Committed::at(0), <_>::default());
        let pipeline = Arc::clone(&pipeline);
        let mut partition =
            Partition::recover((TOPIC, id), bounds, pipeline, committed, state, None).unwrap();
        let fetched = if id % 40 == 0 { &huge } else { &large };
        assert_eq!(partition.take(fetched, 0, now).unwrap(), 1);
        open.push(partition);
    }
    let scratch = |partition: &Partition| {
        partition
            .open
            .as_ref()
            .map_or(0, |open| open.batch.scratch())
    };
    let held = |partition: &Partition| partition.held() + scratch(partition);
    let held: usize = open.iter().map(held).sum();
    let (contexts, buffers) = making.contexts();
    assert_eq!(contexts, 1, "one thread compresses");
    assert!(buffers <= MIB, "{buffers} bytes of buffers are kept");
    assert!(held < 2 * MIB, "the partitions hold {held} bytes");
}
