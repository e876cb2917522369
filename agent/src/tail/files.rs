//! The thread that follows files: it scans, gives each file its turn, and waits for something to
//! happen.

use std::sync::Arc;
use std::time::Duration;

use headwater_record::DeviceId;
use tokio::sync::mpsc::Sender;

use super::counters::Counters;
use super::desk::{Desk, Entry};
use super::nameless::Nameless;
use super::roster::{Pass, Roster};
use crate::batch::Batch;
use crate::budget::Budget;
use crate::checkpoint::{Knowledge, Registry};
use crate::clock::{Monotonic, monotonic};
use crate::config::FileSource;
use crate::discover::told::Told;
use crate::discover::watch::Watch;
use crate::orders::{Order, Orders};
use crate::sources::SourceError;
use crate::spool::disk::Floors;
use crate::stop::Stop;

/// After a pass the thread rests for so long before it heeds the next event: a program that writes
/// a line at a time would otherwise wake it at every line, for a batch of one record. Short enough
/// for a person who watches.
const GATHERING: Duration = Duration::from_millis(100);
/// Least time between two scans that events ask for: in some folders names change all the time.
const SCAN_GAP: Duration = Duration::from_millis(250);

/// What Linux grants where nobody says otherwise.
const OPEN_DEFAULT: usize = 1024;
/// For the database, sockets, watches, and files that no path leads to any more; half of what is granted, where
/// that is little.
const OPEN_RESERVE: usize = 256;

/// What the thread works on.
#[derive(Debug)]
pub struct FilesInput<R> {
    /// Identity of the device.
    pub device: DeviceId,
    /// What to follow.
    pub sources: Vec<FileSource>,
    /// What the database knows; generations that are no files are passed over.
    pub known: Knowledge,
    /// Files of them that nothing leads to any more, from who followed them before; this one's, at its
    /// end.
    pub nameless: Arc<Nameless>,
    /// Changes of what is followed.
    pub orders: Orders<FileSource>,
    /// Where new generations are entered.
    pub registry: R,
    /// The RAM window.
    pub budget: Budget,
    /// Where records go.
    pub batches: Sender<Batch>,
    /// What deleted files leave free of their file systems.
    pub floors: Floors,
    /// This thread's own.
    pub stop: Stop,
    /// Spreads its retries.
    pub seed: u64,
    /// What others see of it.
    pub counters: Arc<Counters>,
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
        entry: Entry::new(input.seed),
        budget: input.budget,
        batches: input.batches,
        open_max: open_max(),
        floors: input.floors,
        counters: input.counters,
        chunk: Vec::new(),
    };
    let mut scanned_at = monotonic();
    let (sources, nameless) = (input.sources, input.nameless.take());
    let mut roster = Roster::start(
        input.device,
        sources,
        &input.known,
        nameless,
        desk,
        scanned_at,
    )?;
    // What happened before it was watched was not told.
    let mut is_new = watch.cover(&roster.folders());
    let mut scan_wanted = is_new;
    let nothing_told = Told::default();
    while !stop.is_set() {
        let now = monotonic();
        while let Some(order) = input.orders.next() {
            obey(order, &mut roster, &input.nameless, now)?;
            is_new |= watch.cover(&roster.folders());
            scan_wanted |= is_new;
        }
        scan_wanted |= watch.take_scan_wanted();
        let scan_all = scan_wanted && now.since(scanned_at) >= SCAN_GAP;
        let told = if is_new { &nothing_told } else { watch.told() };
        let scanned = roster.scan(now, scan_all, told)?;
        if scan_all {
            (scan_wanted, scanned_at, is_new) = (false, now, false);
        }
        if scanned {
            is_new |= watch.cover(&roster.folders());
            scan_wanted |= is_new;
        }
        // Full or not, a pass has waited for room already: no rest is needed then.
        let changed = watch.take_changed();
        if roster.pass(&changed, now, &stop)? != Pass::Idle || stop.sleep(GATHERING) {
            continue;
        }
        let idle_for = roster.next_due(now).since(monotonic());
        stop.wait(if scan_wanted {
            idle_for.min(SCAN_GAP)
        } else {
            idle_for
        });
    }
    roster.finish()?;
    input.nameless.leave(roster.nameless());
    Ok(())
}

/// Follows other sources from now on.
fn obey<R: Registry>(
    order: Order<FileSource>,
    roster: &mut Roster<R>,
    nameless: &Nameless,
    now: Monotonic,
) -> Result<(), SourceError> {
    match order {
        Order::LetGo { sources, done } => {
            nameless.leave(roster.let_go(&sources)?);
            // Nobody waits for it where the agent stops.
            done.send(()).ok();
            Ok(())
        }
        Order::TakeUp { sources, known } => roster.take_up(sources, &known, nameless.take(), now),
    }
}

/// How many files may be held open: what the system grants, less what the rest of the agent needs.
fn open_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let granted = (limits.lines())
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let granted = granted.unwrap_or(OPEN_DEFAULT);
    granted - OPEN_RESERVE.min(granted / 2)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use glob::Pattern;
    use headwater_record::{Generation, Kind};
    use tokio::sync::mpsc;

    use super::*;
    use crate::checkpoint::{FileIdentity, Marker, OpenGeneration, StoreStopped};
    use crate::config::file::{LastLine, StartAt};
    use crate::frame::encoding::Encoding;
    use crate::frame::frames::{AtCut, Framing};
    use crate::process::ProcessPlan;

    struct Accepting;

    impl Registry for Accepting {
        fn register(&self, _: &[OpenGeneration]) -> Result<(), StoreStopped> {
            Ok(())
        }
        fn identify(&self, _: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped> {
            Ok(())
        }
        fn cut(&self, _: Generation, _: u64) -> Result<(), StoreStopped> {
            Ok(())
        }
        fn mark(&self, _: Generation, _: Marker, _: u64) {}
        fn mark_entry(&self, _: Generation, _: Marker, _: Marker) {}
    }

    #[test]
    fn events_move_the_thread_and_a_stop_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let append = |text: &str| {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        let (batches, mut receiver) = mpsc::channel(16);
        let stop = Stop::new();
        let input = FilesInput {
            device: "pi-7".parse().unwrap(),
            sources: vec![FileSource {
                lane: crate::spool::Lane::Normal,
                id: "app".parse().unwrap(),
                paths: vec![Pattern::new(path.to_str().unwrap()).unwrap()],
                exclude: Vec::new(),
                start_at: StartAt::Beginning,
                framing: Framing {
                    encoding: Encoding::UTF_8,
                    max_line: 1024,
                    multiline: None,
                    at_cut: AtCut::Complete,
                },
                multiline_timeout: Duration::from_secs(2),
                last_line: LastLine::Wait,
                last_line_after: Duration::from_secs(3),
                // Never within this test: without events nothing would move.
                rescan: Duration::from_secs(36_000),
                close_after: Duration::from_millis(100),
                process: ProcessPlan::default(),
            }],
            known: Knowledge::default(),
            nameless: Arc::default(),
            orders: Orders::default(),
            registry: Accepting,
            budget: Budget::new(1 << 20),
            batches,
            floors: Floors::default(),
            stop: stop.clone(),
            seed: 1,
            counters: Arc::default(),
        };
        let thread = std::thread::spawn(move || run(input));
        let mut next = || {
            let batch = receiver.blocking_recv().unwrap();
            let record = batch.records().next().unwrap();
            (batch.generation, record.kind, record.span.end())
        };
        append("one\n");
        let (first, _, end) = next();
        assert_eq!(end, 4);
        append("two\n");
        assert_eq!(next(), (first, Kind::Data, 8));
        std::fs::rename(&path, folder.path().join("app.log.1")).unwrap();
        append("three\n");
        let (a, b) = (next(), next());
        let (data, close) = if a.1 == Kind::Data { (a, b) } else { (b, a) };
        assert_eq!((data.1, data.2), (Kind::Data, 6));
        assert_eq!(close, (first, Kind::Close, 8));
        stop.set();
        assert_eq!(thread.join().unwrap(), Ok(()));
    }
}
