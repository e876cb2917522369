//! Rows that give way: the oldest data of a lane, each row becoming a notice of its loss. Notices
//! are never given up, and those of one generation that join are one: an outage of any length leaves
//! one notice for each file that lost something, not one for each batch.

use std::collections::BTreeMap;

use headwater_record::Generation;
use rusqlite::Connection;

use super::batch::{Packer, Row};
use super::store::Failure;
use super::{BatchId, Evict, Evicted, Lane, rows};
use crate::batch::Batch;
use crate::delivery::evict::{give_up, loss};

/// Notices that are remembered, to be joined with what is evicted next; above it all are forgotten,
/// and new ones begin.
const REMEMBERED_MAX: usize = 1024;

/// What a notice takes at most, besides the name of its stream.
const NOTICE_BYTES: i64 = 400;

/// The last notice of a generation that lost something.
#[derive(Debug, Clone)]
struct Joined {
    id: BatchId,
    start: u64,
    end: u64,
    records: u64,
    /// The row in the database says less.
    changed: bool,
}

/// What evicting remembers from one transaction to the next.
#[derive(Debug, Default)]
pub(super) struct Evicting {
    joined: BTreeMap<Generation, Joined>,
    /// Behind the first and up to the second nothing of a lane holds data.
    passed: [(BatchId, BatchId); Lane::COUNT],
    pub(super) evicted: Evicted,
}

/// How the sums change.
pub(super) type Sums = [rows::Change; Lane::COUNT];

impl Evicting {
    /// The transaction did not take effect: what it would have left is not there.
    pub(super) fn forget(&mut self) {
        self.joined.clear();
        self.passed = <[_; Lane::COUNT]>::default();
    }

    /// A row is gone: if it was a notice, nothing joins it any more.
    pub(super) fn deleted(&mut self, id: BatchId, generation: Generation) {
        let joined = self.joined.get(&generation);
        if joined.is_some_and(|joined| joined.id == id) {
            self.joined.remove(&generation);
        }
    }

    /// Makes `bytes` of room at most, in the lanes of `evict` and in their order; `sums` follow. Returns
    /// how much of it could not be made.
    pub(super) fn make_room(
        &mut self,
        open: &Connection,
        packer: &mut Packer,
        evict: &Evict,
        mut bytes: i64,
        (sums, now_ms): (&mut Sums, u64),
    ) -> Result<i64, Failure> {
        if self.joined.len() > REMEMBERED_MAX {
            self.joined.clear();
        }
        for (lane, after) in &evict.lanes {
            // What was at hand, and was left again, lies before what was passed, and holds data.
            let (begin, end) = self.passed[lane.index()];
            let (mut begin, mut from) = match (begin..=end).contains(after) {
                true => (begin, end),
                false => (*after, *after),
            };
            while bytes > 0 {
                let page = evictable(open, *lane, from)?;
                let Some((last, _)) = page.last() else {
                    break;
                };
                let last = last.id;
                for (row, stored) in page {
                    if bytes <= 0 {
                        break;
                    }
                    from = row.id;
                    if evict.kept.contains(&row.id) {
                        begin = row.id;
                        continue;
                    }
                    bytes -= self.give_up(open, packer, evict, (&row, stored), (sums, now_ms))?;
                }
                if from < last {
                    break;
                }
            }
            self.passed[lane.index()] = (begin, from);
        }
        self.write(open, packer, (sums, now_ms))?;
        Ok(bytes.max(0))
    }

    /// Gives one row up, and returns how many bytes that frees.
    fn give_up(
        &mut self,
        open: &Connection,
        packer: &mut Packer,
        evict: &Evict,
        (row, stored): (&Row, i64),
        (sums, now_ms): (&mut Sums, u64),
    ) -> Result<i64, Failure> {
        // A notice of a range that is not the row's would hide what is behind it.
        if !rows::is_whole(open, row.id)? {
            return Err(Failure::Damaged);
        }
        self.evicted.rows += 1;
        if !row.kinds.is_data_alone() {
            self.complete(open, packer, row.generation, (sums, now_ms))?;
            // Sealed with a key that is not here, say: it stays as it is.
            let Ok(batch) = row.unpack(packer.keys()) else {
                return Ok(0);
            };
            let left = give_up(&batch, now_ms);
            let kept = left.entries.len() as u64;
            self.evicted.records += u64::from(row.records).saturating_sub(kept.saturating_sub(1));
            let sum = &mut sums[row.id.lane().index()];
            let freed = sum.take(rows::delete(open, row.id)?);
            let notice = packer.pack(row.id, &left).map_err(Failure::Packing)?;
            let new = rows::insert(open, &notice, left.values.len() as u64, now_ms)?;
            return Ok(freed - sum.put(new, false));
        }
        self.evicted.records += u64::from(row.records);
        let joined = self.joined.get_mut(&row.generation).filter(|joined| {
            let after = evict
                .lanes
                .iter()
                .find(|(lane, _)| *lane == joined.id.lane());
            joined.end == row.start
                && after.is_some_and(|(_, after)| joined.id > *after)
                && !evict.kept.contains(&joined.id)
        });
        if let Some(joined) = joined {
            joined.end = row.end;
            joined.records += u64::from(row.records);
            joined.changed = true;
            let sum = &mut sums[row.id.lane().index()];
            return Ok(sum.take(rows::delete(open, row.id)?));
        }
        self.complete(open, packer, row.generation, (sums, now_ms))?;
        let joined = Joined {
            id: row.id,
            start: row.start,
            end: row.end,
            records: u64::from(row.records),
            changed: true,
        };
        self.joined.insert(row.generation, joined);
        // Its own row becomes the notice, when all that join it are known.
        let notice = NOTICE_BYTES + i64::try_from(row.stream.len()).unwrap_or(0);
        Ok((stored - notice).max(0))
    }

    /// Nothing joins the notice of a generation any more: it is written before it is forgotten.
    fn complete(
        &mut self,
        open: &Connection,
        packer: &mut Packer,
        generation: Generation,
        to: (&mut Sums, u64),
    ) -> Result<(), Failure> {
        match self.joined.remove(&generation) {
            Some(joined) if joined.changed => joined.write(open, packer, generation, to),
            _ => Ok(()),
        }
    }

    /// Writes the notices that have changed.
    fn write(
        &mut self,
        open: &Connection,
        packer: &mut Packer,
        (sums, now_ms): (&mut Sums, u64),
    ) -> Result<(), Failure> {
        for (generation, joined) in self.joined.iter_mut().filter(|(_, joined)| joined.changed) {
            joined.write(open, packer, *generation, (sums, now_ms))?;
            joined.changed = false;
        }
        Ok(())
    }
}

impl Joined {
    /// Writes the notice in the place of its first row.
    fn write(
        &self,
        open: &Connection,
        packer: &mut Packer,
        generation: Generation,
        (sums, now_ms): (&mut Sums, u64),
    ) -> Result<(), Failure> {
        // Those that have joined it are deleted: without it nothing would tell of them.
        let stream = rows::stream_of(open, self.id)?.ok_or(Failure::Damaged)?;
        let sum = &mut sums[self.id.lane().index()];
        sum.take(rows::delete(open, self.id)?);
        let like = Batch {
            stream,
            generation,
            start: self.start,
            entries: Vec::new(),
            values: Vec::new(),
            raw: false,
            permit: None,
        };
        let notice = loss(&like, (self.start, self.end), self.records, now_ms);
        let row = packer.pack(self.id, &notice).map_err(Failure::Packing)?;
        sum.put(
            rows::insert(open, &row, notice.values.len() as u64, now_ms)?,
            false,
        );
        Ok(())
    }
}

/// Some of the oldest rows of a lane that hold data, behind `after`, with what each takes. Blobs are
/// there only where a row holds notices too.
fn evictable(open: &Connection, lane: Lane, after: BatchId) -> rusqlite::Result<Vec<(Row, i64)>> {
    let mut statement = open.prepare_cached(include_str!("sql/evictable.sql"))?;
    let range = [after.max(lane.first().before()), lane.end()].map(|id| id.0.cast_signed());
    let mut found = statement.query(range)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push((rows::stored_row(row)?, row.get(11)?));
    }
    Ok(rows)
}
