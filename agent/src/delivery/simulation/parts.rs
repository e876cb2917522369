//! What a world is made of besides delivery: files, the disk, and a broker with the loader's ledger
//! behind it.

use std::collections::BTreeMap;

use headwater_record::span::SpanSet;
use headwater_record::{Generation, Kind, Ledger, Notice, Span, StreamId, Verdict};

use super::super::backoff::Jitter;
use super::super::evict::{give_up, loss};
use crate::batch::{Batch, Entry};
use crate::spool::{BatchId, Depth, Evict, Evicted, Lane};

/// A file: its records are a function of the offset, so that reading again gives the same.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) generation: Generation,
    pub(super) length: u64,
    /// How far this run has read, and whether its close was sent.
    pub(super) read: u64,
    pub(super) closed: bool,
}

impl File {
    pub(super) fn record_end(&self, start: u64) -> u64 {
        (start + 1 + Jitter::new(self.generation.0 ^ start).draw() % 9).min(self.length)
    }

    pub(super) fn stream(&self) -> StreamId {
        StreamId::parse(&format!("d/s{}/p", self.generation.0)).unwrap()
    }
}

/// What survives a crash.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) rows: BTreeMap<BatchId, Batch>,
    pub(super) settled: BTreeMap<Generation, u64>,
    /// How much more it takes.
    pub(super) room: Option<u64>,
    pub(super) evicted: Evicted,
    /// The last notice of each file that was evicted from, as the store remembers it until it ends.
    pub(super) notices: BTreeMap<Generation, BatchId>,
    pub(super) written: u64,
}

impl Disk {
    pub(super) fn depth(&self) -> Depth {
        let mut depth = Depth {
            rows: self.rows.len() as u64,
            room: self.room,
            evicted: self.evicted,
            written: Some(self.written),
            ..Depth::default()
        };
        for (id, row) in &self.rows {
            let bytes = row.values.len() as u64;
            depth.bytes += bytes;
            if has_data(row) {
                depth.data_bytes[id.lane().index()] += bytes;
            }
        }
        depth
    }

    /// The last row of each lane.
    pub(super) fn last(&self) -> [BatchId; Lane::COUNT] {
        let mut last = Lane::ALL_FIRST.map(BatchId::before);
        for id in self.rows.keys() {
            last[id.lane().index()] = *id;
        }
        last
    }

    /// Bytes of the rows that may give way.
    pub(super) fn evictable(&self, evict: &Evict) -> u64 {
        let lanes = evict.lanes.iter();
        let rows = lanes.flat_map(|(lane, after)| self.rows.range(after.next()..lane.end()));
        let may_go = rows.filter(|(id, row)| !evict.kept.contains(id) && has_data(row));
        may_go.map(|(_, row)| row.values.len() as u64).sum()
    }

    /// As the store does it.
    pub(super) fn evict(&mut self, evict: &Evict, new_bytes: u64) {
        for (lane, after) in &evict.lanes {
            let range = after.next()..lane.end();
            let ids: Vec<_> = self.rows.range(range).map(|(id, _)| *id).collect();
            for id in ids {
                if self.depth().bytes + new_bytes <= evict.bytes_max {
                    return;
                }
                if evict.kept.contains(&id) || !has_data(&self.rows[&id]) {
                    continue;
                }
                self.evicted.rows += 1;
                if !self.join(id, evict) {
                    let left = give_up(&self.rows[&id], 0);
                    self.rows.insert(id, left);
                }
            }
        }
    }

    /// Gives a row up into the notice that it joins; whether there is one that is not at hand.
    fn join(&mut self, id: BatchId, evict: &Evict) -> bool {
        let row = &self.rows[&id];
        if row.entries.iter().any(|entry| entry.kind != Kind::Data) {
            self.notices.remove(&row.generation);
            return false;
        }
        let may_change = |notice: &BatchId| {
            let mut lanes = evict.lanes.iter();
            lanes.any(|(lane, after)| *lane == notice.lane() && notice > after)
                && !evict.kept.contains(notice)
        };
        let notice = self
            .notices
            .get(&row.generation)
            .copied()
            .filter(may_change);
        let joined = notice.and_then(|notice| Some((notice, self.rows.get(&notice)?)));
        let Some((notice, before)) = joined.filter(|(_, before)| before.end() == row.start) else {
            self.notices.insert(row.generation, id);
            return false;
        };
        let joined = loss(row, (before.start, row.end()), 1, 0);
        self.rows.insert(notice, joined);
        self.rows.remove(&id);
        true
    }
}

pub(super) fn has_data(batch: &Batch) -> bool {
    batch.entries.iter().any(|entry| entry.kind == Kind::Data)
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) ledger: Ledger,
    /// Offsets of each generation that never arrived.
    pub(super) missing: BTreeMap<Generation, SpanSet>,
    /// Offsets that a notice gave up before they came.
    pub(super) noticed: u64,
    pub(super) news: BTreeMap<(Generation, Span), u64>,
    in_order: BTreeMap<Generation, u64>,
    pub(super) disordered: bool,
}

impl Broker {
    pub(super) fn arrive(&mut self, batch: &Batch) {
        for record in batch.records() {
            let (stream, generation, span) = (batch.stream.as_str(), batch.generation, record.span);
            if record.kind != Kind::Data {
                let notice = Notice::parse(record.value);
                self.ledger
                    .explain(stream, generation, span, record.kind, notice.as_ref(), 0);
                if record.kind == Kind::Loss {
                    let missing = self.missing.entry(generation).or_default();
                    self.noticed += missing.remove(span);
                    let end = self.in_order.entry(generation).or_default();
                    if span.start() <= *end {
                        *end = span.end().max(*end);
                    }
                }
                continue;
            }
            match self.ledger.accept(stream, generation, span, 0) {
                Verdict::New => *self.news.entry((generation, span)).or_default() += 1,
                Verdict::Duplicate => {}
                verdict => panic!("{generation} {span} is {verdict:?}: records replay"),
            }
            let missing = self
                .missing
                .get_mut(&generation)
                .expect("the file is known");
            if missing.remove(span) > 0 {
                let end = self.in_order.entry(generation).or_default();
                self.disordered |= span.start() != *end;
                *end = span.end();
            }
        }
    }

    pub(super) fn has(&self, generation: Generation, span: Span) -> bool {
        let missing = &self.missing[&generation];
        missing.iter().all(|hole| hole.intersection(span).is_none())
    }
}

pub(super) fn copy(batch: &Batch) -> Batch {
    Batch {
        stream: batch.stream.clone(),
        generation: batch.generation,
        start: batch.start,
        entries: batch.entries.clone(),
        values: batch.values.clone(),
        raw: batch.raw,
        permit: None,
    }
}

/// An empty batch of a stream, to add records to.
pub(super) fn empty(stream: StreamId, generation: Generation, start: u64) -> Batch {
    Batch {
        stream,
        generation,
        start,
        entries: Vec::new(),
        values: Vec::new(),
        raw: false,
        permit: None,
    }
}

/// Adds a record.
pub(super) fn add(batch: &mut Batch, end: u64, kind: Kind, value: &[u8]) {
    batch.values.extend_from_slice(value);
    let value_end = batch.values.len() as u32;
    batch.entries.push(Entry {
        end,
        value_end,
        kind,
    });
}

/// What a salvage says of a file: what is settled and nowhere, in one batch for each range. `end`:
/// what is settled; `gone`: its generation was forgotten, so it is closed.
pub(super) fn losses(
    file: &File,
    disk: &Disk,
    end: u64,
    (gone, beyond): (bool, &[(Generation, u64, u64)]),
) -> Vec<Batch> {
    let mut lost = SpanSet::default();
    let span = |start, end| Span::new(start, end).unwrap_or(Span::empty_at(start));
    lost.push(span(0, end));
    for (_, start, to) in beyond.iter().filter(|beyond| beyond.0 == file.generation) {
        // They come in order, and the first may join what is settled.
        let from = (*start).max(lost.iter().last().map_or(0, Span::end));
        lost.push(span(from, (*to).max(from)));
    }
    let mut closes = !gone;
    for row in disk
        .rows
        .values()
        .filter(|row| row.generation == file.generation)
    {
        lost.remove(span(row.start, row.end()));
        closes |= row.closes();
    }
    let mut batches: Vec<_> = lost
        .iter()
        .map(|span| {
            let mut batch = empty(file.stream(), file.generation, span.start());
            add(
                &mut batch,
                span.end(),
                Kind::Loss,
                br#"{"notice":"loss","reason":"spool-corrupt"}"#,
            );
            batch
        })
        .collect();
    if !closes {
        let mut batch = empty(file.stream(), file.generation, end);
        add(
            &mut batch,
            end,
            Kind::Close,
            br#"{"notice":"close","reason":"spool-corrupt","tail":"unknown"}"#,
        );
        batches.push(batch);
    }
    batches
}
