//! The heart by example, and in a simulation with faults.

mod books;
mod closing;
mod guarded;
mod items;
mod memory;
mod simulation;
mod windows;
mod worker;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use headwater_record::{Generation, Kind, Span};

use super::*;
use crate::fetched::{Fetched, Identity};
use crate::name::{ObjectName, snapshot_end};
use crate::pipeline::tests::pipeline;
use crate::recover::go_on_with_names;
use crate::state::{Brief, Named, Snapshot};
use worker::{Worker, make_pipeline};
use world::{Case, Seed, World};

const TOPIC: &str = "logs";
/// 2026-11-28, 8 o'clock.
const EIGHT_MS: u64 = 1_795_852_800_000;

/// Performs what a partition asks for: the paths of what each batch uploads, and the boundary of each.
fn perform(partition: &mut Partition, now: Now) -> (Vec<Vec<String>>, Vec<Intent>) {
    let (mut uploaded, mut boundaries) = (Vec::new(), Vec::new());
    while let Some(action) = partition.next_action() {
        let is_awaited = action.is_awaited();
        match action {
            Action::Commit(begun) => boundaries.extend(begun.intent),
            Action::Upload(objects) => {
                let path = |object: &Object| ObjectName::parse(&object.key).unwrap().path;
                uploaded.push(objects.iter().map(path).collect());
            }
            _ => {}
        }
        if is_awaited {
            partition.apply(Event::ActionDone, now).unwrap();
        }
    }
    (uploaded, boundaries)
}
