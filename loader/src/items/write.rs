//! A batch's items into their tables: some at a time, each for as long as it takes.

use std::ops::Range;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::Mode;
use super::batch::{Items, Rows};
use crate::backoff::Backoff;
use crate::crash;
use crate::metrics::{ItemCounts, Metrics};
use crate::store::StoreError;
use crate::store::dynamodb::{DynamoDb, Put, PutError};

/// Items that one request puts, where it may put several.
const SOME: usize = 25;
/// Their bytes: far below DynamoDB's 16 MB, so that requests under way stay small in memory.
const SOME_BYTES: usize = 1 << 20;
/// What a field costs while its item is under way, bytes: about 200 as an attribute, which is kept twice where
/// several items go together, and its part of the request.
const FIELD_COST: usize = 512;
/// What a byte of an item costs then.
const BYTE_COST: usize = 4;
/// Most that a request of several items costs.
const SOME_COST: usize = 2 << 20;
/// Requests of one batch that are under way at once.
const UNDER_WAY: usize = 16;

/// Whether it is worth trying again where only a person can help.
#[derive(Debug, Clone)]
pub enum Patience {
    /// Yes: whoever owns a partition waits for that person, who is told on the line of this worker.
    Endless(Arc<Metrics>, (i32, u64)),
    /// No: a function's invocation fails, and comes again.
    UntilRefused,
}

/// Writes all items.
///
/// # Errors
/// [`StoreError::Refused`] without patience; a task that was cut off is [`StoreError::Later`].
pub async fn write_all(
    tables: &Arc<DynamoDb>,
    items: &Arc<Items>,
    counts: &ItemCounts,
    patience: Patience,
    seed: u64,
) -> Result<(), StoreError> {
    let mut tasks = JoinSet::new();
    for (table, rows) in items.tables.iter().enumerate() {
        for (number, range) in chunks(rows).into_iter().enumerate() {
            while tasks.len() >= UNDER_WAY {
                ended(tasks.join_next().await)?;
                crash::point("item-written");
            }
            let some = Request {
                tables: Arc::clone(tables),
                items: Arc::clone(items),
                counts: counts.clone(),
                table,
            };
            let backoff = Backoff::new(seed.wrapping_add(number as u64));
            let patience = patience.clone();
            tasks.spawn(async move { some.write(range, &patience, backoff).await });
        }
    }
    while !tasks.is_empty() {
        ended(tasks.join_next().await)?;
        crash::point("item-written");
    }
    crash::point("items-written");
    Ok(())
}

fn ended(task: Option<Result<Result<(), StoreError>, JoinError>>) -> Result<(), StoreError> {
    match task {
        None => Ok(()),
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(StoreError::Later(format!("a task ended early: {error}"))),
    }
}

/// What one request puts. On a condition: one item; else as many as go together.
fn chunks(rows: &Rows) -> Vec<Range<usize>> {
    let most = match rows.mode {
        Mode::Latest => 1,
        Mode::Append => SOME,
    };
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let (mut bytes, mut memory) = (0, 0);
    for (at, row) in rows.rows.iter().enumerate() {
        bytes += row.len();
        memory += cost(row);
        match chunks.last_mut() {
            Some(last) if last.len() < most && bytes <= SOME_BYTES && memory <= SOME_COST => {
                last.end = at + 1;
            }
            _ => {
                chunks.push(at..at + 1);
                (bytes, memory) = (row.len(), cost(row));
            }
        }
    }
    chunks
}

/// Memory that an item takes while it is under way, bytes, about. A comma in a text counts as a field: too
/// much rather than too little.
fn cost(row: &[u8]) -> usize {
    let fields = memchr::memchr_iter(b',', row).count() + 1;
    BYTE_COST * row.len() + FIELD_COST * fields
}

/// One request's worth of items.
struct Request {
    tables: Arc<DynamoDb>,
    items: Arc<Items>,
    counts: ItemCounts,
    table: usize,
}

impl Request {
    async fn write(
        &self,
        range: Range<usize>,
        patience: &Patience,
        mut backoff: Backoff,
    ) -> Result<(), StoreError> {
        let Some(Rows { table, mode, rows }) = self.items.tables.get(self.table) else {
            return Ok(());
        };
        let mut left = rows.get(range).unwrap_or_default().to_vec();
        let mut was_refused = false;
        while !left.is_empty() {
            let several = if *mode == Mode::Latest { 1 } else { left.len() };
            let room = self
                .tables
                .room(left.iter().take(several).map(|row| cost(row)).sum());
            let room = room.await?;
            let put = match (mode, left.as_slice()) {
                (Mode::Latest, [item, ..]) => self.tables.put_later(table, item).await.map(|put| {
                    match put {
                        Put::Written => self.counts.written(1),
                        Put::Superseded => self.counts.superseded(),
                    }
                    left.remove(0);
                }),
                (_, items) => self.tables.put_some(table, items).await.map(|undone| {
                    self.counts
                        .written((left.len() - undone.len().min(left.len())) as u64);
                    self.counts.unprocessed(undone.len() as u64);
                    let mut undone: Vec<usize> = undone;
                    undone.sort_unstable();
                    undone.dedup();
                    left = undone
                        .into_iter()
                        .filter_map(|at| left.get(at).cloned())
                        .collect();
                }),
            };
            // Whoever waits leaves it to others.
            drop(room);
            // Other requests of its batch may be under way for long. One that is still refused says so again.
            if let (Ok(()), Patience::Endless(metrics, who)) = (&put, patience)
                && std::mem::take(&mut was_refused)
            {
                metrics.goes_on(*who);
            }
            let error = match put {
                Ok(()) if left.is_empty() => return Ok(()),
                Ok(()) if *mode == Mode::Latest => continue,
                Ok(()) => StoreError::Later(format!("table {table} left items undone")),
                Err(PutError::Throttled(reason)) => {
                    self.counts.throttled();
                    StoreError::Later(reason)
                }
                Err(PutError::Other(error)) => error,
            };
            if !matches!(error, StoreError::Later(_)) {
                self.counts.refused();
                match patience {
                    Patience::Endless(metrics, who) => metrics.waits(*who, error.to_string()),
                    Patience::UntilRefused => return Err(error),
                }
                was_refused = true;
            }
            let wait = backoff.next_wait();
            tracing::warn!(%error, ?wait, "items not written yet; trying again, the offset stays where it is");
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_large_as_they_may_be() {
        let rows = |mode, sizes: &[usize]| Rows {
            table: "t".into(),
            mode,
            rows: sizes.iter().map(|n| vec![b'x'; *n].into()).collect(),
        };
        assert_eq!(chunks(&rows(Mode::Latest, &[1, 1])), [0..1, 1..2]);
        assert_eq!(
            chunks(&rows(Mode::Append, &[1; 60])),
            [0..25, 25..50, 50..60]
        );
        let large = 400 << 10;
        assert_eq!(chunks(&rows(Mode::Append, &[large; 3])), [0..1, 1..2, 2..3]);
        let half = 200 << 10;
        assert_eq!(chunks(&rows(Mode::Append, &[half; 5])), [0..2, 2..4, 4..5]);
        let mut small = rows(Mode::Append, &[1 << 10; 5]);
        // Many small fields take more memory than their text.
        small.rows[2] = vec![b','; 5000].into();
        assert_eq!(chunks(&small), [0..2, 2..3, 3..5]);
        assert!(chunks(&rows(Mode::Append, &[])).is_empty());
    }
}
