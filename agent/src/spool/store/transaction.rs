//! One transaction: rows that come and go, sums, checkpoints, all or nothing.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::Failure;
use crate::crash;
use crate::spool::batch::{Kinds, Packer, Row};
use crate::spool::evict::{self, Evicting};
use crate::spool::registry::Markers;
use crate::spool::{Depth, Transaction, generations, rows, usage};

/// What a transaction is written with.
pub(super) struct Tools<'a> {
    pub(super) packer: &'a mut Packer,
    pub(super) markers: &'a Markers,
    pub(super) evicting: &'a mut Evicting,
    /// How much more the file system takes above its floors, where that matters and is known.
    pub(super) room: Option<u64>,
}

/// Writes a transaction, and returns what the spool holds then.
pub(super) fn write(
    connection: &mut Connection,
    tools: Tools<'_>,
    transaction: &Transaction,
    now_ms: u64,
) -> Result<Depth, Failure> {
    let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut packed = Vec::with_capacity(transaction.rows.len());
    for (id, batch) in &transaction.rows {
        let row = tools.packer.pack(*id, batch).map_err(Failure::Packing)?;
        packed.push((row, batch.values.len() as u64));
    }
    let mut sums = evict::Sums::default();
    if let Some(evict) = &transaction.evict {
        let new: i64 = packed.iter().map(|(row, _)| rows::stored_bytes(row)).sum();
        let held = rows::depth(&open)?.bytes;
        let most = i64::try_from(evict.bytes_max).unwrap_or(i64::MAX);
        let bytes = i64::try_from(held).unwrap_or(i64::MAX).saturating_add(new) - most;
        let sums = (&mut sums, now_ms);
        let missing = tools
            .evicting
            .make_room(&open, tools.packer, evict, bytes, sums)?;
        // What gives way leaves its pages to what enters; the rest is new on the disk.
        let grows = new - (bytes.max(0) - missing);
        let grows = u64::try_from(grows).unwrap_or(0);
        if tools.room.is_some_and(|room| room < grows) {
            return Err(Failure::Floor);
        }
    }
    for (row, plain_bytes) in &packed {
        let sum = &mut sums[row.id.lane().index()];
        enter(&open, (row, *plain_bytes), sum, now_ms)?;
    }
    let mut closed = Vec::new();
    for id in &transaction.deletes {
        if let Some(deleted) = rows::delete(&open, *id)? {
            closed.extend(deleted.closes.then_some(deleted.generation));
            tools.evicting.deleted(*id, deleted.generation);
            sums[id.lane().index()].take(Some(deleted));
        }
    }
    rows::add_depth(&open, &sums)?;
    usage::write(&open, &transaction.usage)?;
    let depth = rows::depth(&open)?;
    let mut is_over = !closed.is_empty();
    for checkpoint in &transaction.checkpoints {
        let marked = tools.markers.get(checkpoint.generation);
        let is_empty = depth.rows == 0;
        is_over |= generations::settle(&open, *checkpoint, marked.as_ref(), is_empty)?;
    }
    if depth.rows == 0 && !transaction.deletes.is_empty() {
        generations::drained(&open)?;
    } else {
        closed
            .into_iter()
            .try_for_each(|generation| generations::end(&open, generation))?;
    }
    if is_over || (depth.rows == 0 && !transaction.deletes.is_empty()) {
        generations::trim(&open, now_ms)?;
    }
    let spools = !transaction.rows.is_empty();
    crash::point(if spools {
        "spool-before-commit"
    } else {
        "checkpoint-before-commit"
    });
    open.commit()?;
    // Not before: what was refused is written once more.
    for checkpoint in transaction.checkpoints.iter().filter(|at| at.closed) {
        tools.markers.forget(checkpoint.generation);
    }
    if spools {
        crash::point("spool-after-commit");
    }
    Ok(depth)
}

/// Enters a row. Where another batch has its id, that one is of an earlier run, which began with the same
/// ids: it was delivered and deleted, a salvage has brought it back, and it gives way.
fn enter(
    open: &Connection,
    (row, plain_bytes): (&Row, u64),
    sum: &mut rows::Change,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let mut stored = rows::insert(open, row, plain_bytes, now_ms)?;
    if stored.is_none() && !rows::is_there(open, row)? {
        sum.take(rows::delete(open, row.id)?);
        stored = rows::insert(open, row, plain_bytes, now_ms)?;
    }
    sum.put(stored, row.kinds.has(Kinds::DATA));
    Ok(())
}
