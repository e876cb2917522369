//! The store on a real database in a directory of its own.

mod anew;
mod batches;
mod disk;
mod eviction;
mod generations;
mod giving_way;
mod sealing;
mod split;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_record::notice::{Tail, reason};
use headwater_record::{Generation, Kind, Notice, StreamId};
use rusqlite::{Connection, ffi};

use super::vacuum::{FREE_PAGES_KEPT, VACUUM_PAGES, shrink};
use super::*;
use crate::batch::{Batch, Entry};
use crate::checkpoint::{
    CLOSED_OF_STREAM_MAX, FileIdentity, Marker, OpenGeneration, Origin, Registry,
};
use crate::spool::batch::Row;
use crate::spool::{Checkpoint, Evict, rows, schema};
use crate::stop::Stop;

struct Rig {
    store: Store,
    replies: mpsc::Receiver<Reply>,
    found: Found,
}

impl Rig {
    fn start(dir: &Path) -> Self {
        Self::with_keys(dir, Keys::default()).unwrap()
    }

    fn with_keys(dir: &Path, keys: Keys) -> Result<Self, OpenError> {
        Self::open(dir, (keys, Present::default()))
    }

    fn on(dir: &Path, present: Present) -> Self {
        Self::open(dir, (Keys::default(), present)).unwrap()
    }

    fn open(dir: &Path, (keys, present): (Keys, Present)) -> Result<Self, OpenError> {
        let (sender, replies) = mpsc::channel(REPLIES);
        let to = (&"d".parse().unwrap(), Floors::default(), keys, present);
        let (store, opening) = Store::start(dir, to, sender).unwrap();
        let mut found = opening.blocking_recv().unwrap()?;
        // Others use the disk, too: what it has free is no matter of these tests.
        assert!(found.depth.room.take().is_some());
        Ok(Self {
            store,
            replies,
            found,
        })
    }

    fn commit(&mut self, transaction: Transaction) -> Depth {
        self.store.commit(transaction).unwrap();
        match self.replies.blocking_recv() {
            Some(Reply::Committed(depth)) => Depth {
                room: None,
                written: None,
                ..depth
            },
            other => panic!("{other:?}"),
        }
    }

    fn load(
        &mut self,
        after: u64,
        through: u64,
        bytes_max: u64,
    ) -> (Vec<(BatchId, Batch)>, u64, u64) {
        self.store
            .load(BatchId(after), BatchId(through), bytes_max)
            .unwrap();
        match self.replies.blocking_recv() {
            Some(Reply::Loaded {
                rows,
                through,
                lost,
            }) => (rows, through.0, lost),
            other => panic!("{other:?}"),
        }
    }
}

fn batch(start: u64, kinds: &[Kind]) -> Arc<Batch> {
    let mut batch = Batch {
        stream: StreamId::parse("d/s//log").unwrap(),
        generation: Generation(u64::MAX - 1),
        start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    };
    for kind in kinds {
        batch
            .values
            .extend_from_slice(format!("value at {}", batch.end()).as_bytes());
        batch.entries.push(Entry {
            end: batch.end() + 10,
            value_end: batch.values.len() as u32,
            kind: *kind,
        });
    }
    Arc::new(batch)
}

/// Batches of which zstd makes nothing smaller: a notice takes less room than each.
fn large(ids: std::ops::RangeInclusive<u64>) -> Vec<(BatchId, Arc<Batch>)> {
    let mut rows = spooled(ids);
    for (id, batch) in &mut rows {
        let batch = Arc::get_mut(batch).unwrap();
        batch.values = (0..300_u64)
            .flat_map(|n| crc32c::crc32c(&(id.0 << 16 | n).to_le_bytes()).to_le_bytes())
            .collect();
        batch.entries[0].value_end = batch.values.len() as u32;
    }
    rows
}

fn spooled(ids: std::ops::RangeInclusive<u64>) -> Vec<(BatchId, Arc<Batch>)> {
    ids.map(|id| (BatchId(id), batch(id * 10, &[Kind::Data])))
        .collect()
}

fn generation(n: u64, origin: Origin) -> OpenGeneration {
    OpenGeneration {
        generation: Generation(n),
        stream: StreamId::parse("d/s//log").unwrap(),
        origin,
        settled: 0,
        skip_to: Some(u64::MAX),
        cuts: Vec::new(),
        marker: None,
        earlier: Vec::new(),
        goes_on: None,
    }
}

fn file(path: &[u8]) -> FileIdentity {
    FileIdentity {
        path: path.to_vec(),
        device: u64::MAX,
        inode: 1 << 63,
        fingerprint_len: 1024,
        fingerprint: u32::MAX,
        since_ms: u64::MAX,
    }
}

fn owner(dir: &Path) -> Owner {
    Owner::open(
        dir,
        (
            "d".parse().unwrap(),
            Floors::default(),
            Keys::default(),
            Present::default(),
        ),
        (
            Markers::default(),
            Seen::default(),
            Salvaging::default(),
            Refusing::default(),
        ),
    )
    .unwrap()
    .0
}

fn connection(owner: &Owner) -> &Connection {
    &owner.opened.as_ref().unwrap().connection
}
