//! Delivery against a world that fails: another edge over the same machine, with a broker, a disk,
//! sources and a clock that a seed drives. A crash can come between any two steps.
//!
//! What is checked, in each world, all the time:
//! - a checkpoint covers only what the broker has or the disk holds; a row is deleted only when the
//!   broker has it;
//! - the window, librdkafka's share and the spool stay within their bounds;
//! - no deadline is left behind that is past: the edge would spin.
//!
//! And at the end, when everything works again: all of every file has arrived, the loader's ledger
//! finds no gap and each record new exactly once, and where nothing was refused, in order.

mod parts;
mod world;

use self::world::World;
use super::Counters;

const WORLDS: u64 = 3000;

#[test]
fn no_world_loses_or_repeats() {
    let mut all = Counters::default();
    for seed in 0..WORLDS {
        let world = std::panic::catch_unwind(|| World::new(seed).live());
        let Ok(counters) = world else {
            panic!("seed {seed}: see above");
        };
        all.spooled += counters.spooled;
        all.checkpoints += counters.checkpoints;
        all.retries += counters.retries;
        all.recreated += counters.recreated;
        all.refused += counters.refused;
        all.healed += counters.healed;
        all.dropped += counters.dropped;
    }
    // The worlds were as bad as they are meant to be.
    let least = [
        all.spooled,
        all.checkpoints,
        all.retries,
        all.recreated,
        all.refused,
        all.healed,
        all.dropped,
    ]
    .into_iter()
    .min();
    assert!(least > Some(1000), "{all:?}");
}
