//! The thread that follows files: it scans, gives each file its turn, and waits for something to
//! happen.

use std::time::Duration;

use headwater_record::DeviceId;
use tokio::sync::mpsc::Sender;

use super::reader::Desk;
use super::roster::{Pass, Roster};
use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{OpenGeneration, Registry};
use crate::clock::monotonic;
use crate::config::FileSource;
use crate::discover::watch::Watch;
use crate::sources::SourceError;
use crate::stop::Stop;

/// After a pass the thread rests for so long before it heeds the next event: a program that writes
/// a line at a time would otherwise wake it at every line, for a batch of one record. Short enough
/// for a person who watches.
const GATHERING: Duration = Duration::from_millis(100);
/// Least time between two scans that events ask for: in some folders names change all the time.
const SCAN_GAP: Duration = Duration::from_millis(250);

/// What the thread works on.
#[derive(Debug)]
pub struct FilesInput<R> {
    /// Identity of the device.
    pub device: DeviceId,
    /// What to follow.
    pub sources: Vec<FileSource>,
    /// Every open generation that the database knows; those that are no files are passed over.
    pub known: Vec<OpenGeneration>,
    /// Where new generations are entered.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where records go.
    pub batches: Sender<Batch>,
    /// This thread's own.
    pub stop: Stop,
}

/// Follows files until told to stop.
///
/// # Errors
/// See [`SourceError`].
pub fn run<R: Registry>(input: FilesInput<R>) -> Result<(), SourceError> {
    let stop = input.stop;
    let mut watch = Watch::start(stop.clone());
    let desk = Desk {
        registry: input.registry,
        budget: input.budget,
        batches: input.batches,
        chunk: Vec::new(),
    };
    let mut scanned_at = monotonic();
    let mut roster = Roster::start(input.device, input.sources, &input.known, desk, scanned_at)?;
    let mut scan_wanted = watch.cover(&roster.folders());
    while !stop.is_set() {
        let now = monotonic();
        scan_wanted |= watch.take_scan_wanted();
        let scan_all = scan_wanted && now.since(scanned_at) >= SCAN_GAP;
        let scanned = roster.scan(now, scan_all)?;
        if scan_all {
            (scan_wanted, scanned_at) = (false, now);
        }
        if scanned {
            scan_wanted |= watch.cover(&roster.folders());
        }
        // Full or not, a pass has waited for room already: no rest is needed then.
        if roster.pass(now, &stop)? != Pass::Idle || stop.sleep(GATHERING) {
            continue;
        }
        let idle_for = roster.idle_for(monotonic());
        stop.wait(if scan_wanted { idle_for.min(SCAN_GAP) } else { idle_for });
    }
    roster.finish()
}
