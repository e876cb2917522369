use std::sync::{Arc, Mutex};

use tracing::Level;

use super::*;
use crate::batch::Batch;
use crate::delivery::uplink::UplinkSettings;
use crate::delivery::{Event, Settings};
use crate::spool::{BatchId, Lane, WhenFull};

fn delivery(rows: u64) -> Delivery {
    let depth = Depth {
        rows,
        ..Depth::default()
    };
    let settings = Settings {
        spool_after: Duration::ZERO,
        spool_bytes_max: 1 << 30,
        when_full: [WhenFull::Pause; Lane::COUNT],
        uplink: UplinkSettings::default(),
        flash_bytes_per_day: None,
        checkpoint_every: Duration::from_secs(60),
        checkpoint_bytes: 1 << 20,
        window_bytes: 1 << 20,
        in_flight_bytes_max: 1 << 20,
        flush: Duration::ZERO,
    };
    let mut last = Lane::ALL_FIRST.map(BatchId::before);
    last[0].0 += rows;
    Delivery::new(settings, 1, depth, last)
}

fn batch() -> Batch {
    Batch {
        stream: headwater_record::StreamId::parse("d/s/p").unwrap(),
        generation: headwater_record::Generation(1),
        start: 0,
        entries: Vec::new(),
        values: vec![0; 10],
        raw: false,
        permit: None,
    }
}

#[test]
fn a_store_or_a_source_that_hangs_is_told_and_silence_that_has_an_end_is_not() {
    let now = Monotonic(1_000_000);
    let silent = |seconds| Some(("files".to_owned(), Duration::from_secs(seconds)));
    let idle = delivery(0);
    assert_eq!(stuck((&idle, None), None, now), None);
    assert_eq!(stuck((&idle, None), silent(119), now), None);
    assert!(
        stuck((&idle, None), silent(120), now)
            .unwrap()
            .contains("\"files\"")
    );
    // A commit that is not answered, and a load.
    let mut commits = delivery(0);
    commits.apply(Event::Queued(batch()), now);
    let mut loads = delivery(3);
    loads.apply(Event::Tick, now);
    for owed in [commits, loads] {
        let at = |seconds| stuck((&owed, None), None, now.plus(Duration::from_secs(seconds)));
        assert_eq!(at(59), None);
        assert!(at(60).unwrap().contains("the disk hangs"));
    }
    // A salvage takes its time, as long as it moves.
    let salvage = Salvage {
        bytes: 1,
        bytes_all: 2,
        moved: now,
    };
    let at = |seconds| {
        let later = now.plus(Duration::from_secs(seconds));
        stuck((&idle, Some(salvage)), None, later)
    };
    assert_eq!(at(599), None);
    assert!(at(600).unwrap().contains("the disk hangs"));
}

/// What is logged, as somebody who follows the log reads it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lines that are logged in a day, of an agent to which each of its own lines comes as a record, and one
/// record of somebody else's in the first minute.
fn lines_of_a_day(level: Level) -> usize {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut now = Monotonic(1_000_000);
        let (mut delivery, mut progress) = (delivery(0), Progress::new(now));
        delivery.apply(Event::Queued(batch()), now);
        let mut read = 0;
        for _ in 0..24 * 60 {
            now = now.plus(LOG_EVERY);
            progress.tell((&delivery, None), 0, now);
            let logged = log.0.lock().unwrap().len();
            if logged > std::mem::replace(&mut read, logged) {
                delivery.apply(Event::Queued(batch()), now);
            }
        }
    });
    let lines = log.0.lock().unwrap();
    memchr::memchr_iter(b'\n', &lines).count()
}

#[test]
fn an_agent_that_reads_its_own_log_does_not_keep_itself_awake() {
    assert_eq!(lines_of_a_day(Level::INFO), 0);
    // Where it was asked for, it is what it was asked for: a line a minute, for ever.
    assert_eq!(lines_of_a_day(Level::DEBUG), 24 * 60);
}
