//! Every batch that is at hand, in one order, and how far the spool behind it has been read. Pure.
//!
//! ```text
//!   rows in the spool                                     RAM
//!   [acknowledged][in flight][loaded]│[not loaded      ]│[in flight][unsent      ]
//!    gone          (no batch)         load_after         spool_last                next
//! ```
//!
//! A batch's life: queued in RAM; sent; acknowledged. Or, late: committed to the spool (its RAM
//! copy goes, and if it is in flight only its name stays); loaded in its turn; sent; acknowledged;
//! and its row deleted. The order of sending is the order of the ids, so nothing behind a row that
//! is not loaded may be sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_record::Kind;

use super::held::Held;
use super::item::{Item, Place};
use super::settle::Stretch;
use crate::batch::Batch;
use crate::clock::Monotonic;
use crate::spool::BatchId;

/// What is handed to librdkafka and not reported yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) batches: usize,
    /// Values, and [`super::item::RECORD_COST`] for each.
    pub(super) cost: usize,
}

/// A batch of which delivery was reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    pub(super) stretch: Stretch,
    pub(super) bytes: usize,
    /// It was neither in the spool nor reported before: this settles it.
    pub(super) settles: bool,
}

/// What was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) batches: u64,
    pub(super) records: u64,
}

impl GivenUp {
    fn add(&mut self, original: &Item) {
        let entries = original.batch.iter().flat_map(|batch| &batch.entries);
        let data = entries.filter(|entry| entry.kind == Kind::Data);
        self.batches += 1;
        self.records += data.count() as u64;
    }
}

#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) items: BTreeMap<BatchId, Item>,
    /// At hand, and neither in flight nor held.
    pub(super) unsent: BTreeSet<BatchId>,
    pub(super) held: Held,
    /// Of which nothing is on disk, nor under way to it.
    ram: BTreeSet<BatchId>,
    ram_bytes: usize,
    committing: Vec<BatchId>,
    /// Batches whose notices are among those, as they were: until the commit is there, nothing is
    /// given up, and their permits are kept.
    giving_up: BTreeMap<BatchId, Item>,
    given_up: GivenUp,
    /// Some of them are in the spool now, unsent, and still at hand.
    just_committed: bool,
    /// Acknowledged rows that are still in the spool, and those of them whose deletion is under way.
    gone: BTreeSet<BatchId>,
    deleting: Vec<BatchId>,
    next: BatchId,
    load_after: BatchId,
    spool_last: BatchId,
    in_flight: InFlight,
}

impl Window {
    /// Nothing at hand, and an empty spool; ids follow `before`.
    pub(super) fn new(before: BatchId) -> Self {
        Self::over(before, before)
    }

    /// Nothing at hand, and a spool whose rows are behind `before`, the last being `last`.
    pub(super) fn over(before: BatchId, last: BatchId) -> Self {
        Self {
            next: last.next(),
            load_after: before,
            spool_last: last,
            ..Self::default()
        }
    }

    /// The last batch that was taken in.
    pub(super) fn last_queued(&self) -> BatchId {
        self.next.before()
    }

    /// Takes a batch in and returns its range.
    pub(super) fn queue(&mut self, batch: Batch, now: Monotonic) -> Stretch {
        let id = self.next;
        self.next = id.next();
        let item = Item::new(batch, Place::Ram, now);
        let stretch = item.stretch;
        self.ram_bytes += item.bytes;
        self.ram.insert(id);
        self.unsent.insert(id);
        self.items.insert(id, item);
        stretch
    }

    /// The batch whose turn it is, if it is at hand: where the spool holds earlier ones, they are
    /// to be loaded first.
    pub(super) fn next_to_send(&self) -> Option<BatchId> {
        let first = *self.unsent.first()?;
        (first <= self.load_after || self.to_load().is_none()).then_some(first)
    }

    /// What sending it would cost, and whether its row is in the spool.
    pub(super) fn look(&self, id: BatchId) -> Option<(usize, bool)> {
        let item = self.items.get(&id)?;
        Some((item.cost, item.place == Place::Spool))
    }

    /// Its range.
    pub(super) fn stretch(&self, id: BatchId) -> Option<Stretch> {
        Some(self.items.get(&id)?.stretch)
    }

    /// Marks a batch as handed to librdkafka, and returns it.
    pub(super) fn send(&mut self, id: BatchId) -> Option<Arc<Batch>> {
        let item = self.items.get_mut(&id)?;
        self.unsent.remove(&id);
        item.in_flight = true;
        self.in_flight.batches += 1;
        self.in_flight.cost += item.cost;
        match item.place {
            Place::Spool => item.batch.take(),
            Place::Ram | Place::Committing { .. } => item.batch.clone(),
        }
    }

    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight
    }

    /// The broker has it. Nothing where it is not known (reported twice, or left to the spool).
    pub(super) fn acknowledge(&mut self, id: BatchId) -> Option<Acknowledged> {
        self.land(id);
        self.unsent.remove(&id);
        self.held.forget(id);
        let item = self.items.get_mut(&id)?;
        let mut acknowledged = Acknowledged {
            stretch: item.stretch,
            bytes: item.bytes,
            settles: true,
        };
        match &mut item.place {
            Place::Ram => {
                self.ram.remove(&id);
                self.ram_bytes -= item.bytes;
                self.items.remove(&id);
            }
            Place::Committing {
                acknowledged: already,
            } => {
                acknowledged.settles = !std::mem::replace(already, true);
            }
            Place::Spool => {
                acknowledged.settles = false;
                self.items.remove(&id);
                self.gone.insert(id);
            }
        }
        Some(acknowledged)
    }

    /// It did not arrive, or nobody knows: it is to be sent again, in its place.
    pub(super) fn unsend(&mut self, id: BatchId) {
        if !self.land(id) {
            return;
        }
        let Some(item) = self.items.get(&id) else {
            return;
        };
        if item.batch.is_some() {
            self.unsent.insert(id);
        } else {
            self.leave_to_spool(id);
        }
    }

    /// Nothing is in flight any more: librdkafka's client is gone.
    pub(super) fn unsend_all(&mut self) {
        let flying: Vec<_> = self
            .items
            .iter()
            .filter(|(_, item)| item.in_flight)
            .map(|(id, _)| *id)
            .collect();
        for id in flying {
            self.unsend(id);
        }
    }

    /// Takes it out of what is in flight; whether it was.
    pub(super) fn land(&mut self, id: BatchId) -> bool {
        let Some(item) = self.items.get_mut(&id).filter(|item| item.in_flight) else {
            return false;
        };
        item.in_flight = false;
        self.in_flight.batches -= 1;
        self.in_flight.cost -= item.cost;
        true
    }

    /// Forgets a batch whose row is in the spool; it is loaded in its turn.
    pub(super) fn leave_to_spool(&mut self, id: BatchId) {
        self.items.remove(&id);
        self.unsent.remove(&id);
        self.load_after = self.load_after.min(id.before());
    }

    /// When the oldest batch that is only in RAM was queued.
    pub(super) fn oldest_in_ram(&self) -> Option<Monotonic> {
        Some(self.items.get(self.ram.first()?)?.queued)
    }

    /// Bytes of values of which nothing is on disk, nor under way to it.
    pub(super) fn ram_bytes(&self) -> usize {
        self.ram_bytes
    }

    /// Batches of which neither the broker nor the disk has said that it has them.
    pub(super) fn unsettled(&self) -> usize {
        let committing = |id: &&BatchId| {
            let item = self.items.get(id);
            item.is_some_and(|item| {
                item.place
                    == Place::Committing {
                        acknowledged: false,
                    }
            })
        };
        self.ram.len() + self.committing.iter().filter(committing).count()
    }

    /// Marks the oldest batches that are only in RAM as under way to the spool: at most
    /// `group_max` bytes of values (but one batch at least), and never more than `room`.
    pub(super) fn start_commit(
        &mut self,
        group_max: usize,
        room: u64,
    ) -> Vec<(BatchId, Arc<Batch>)> {
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        while let Some(&id) = self.ram.first() {
            let Some(item) = self.items.get_mut(&id) else {
                break;
            };
            bytes = bytes.saturating_add(item.bytes);
            let fits = u64::try_from(bytes).is_ok_and(|bytes| bytes <= room);
            if !fits || (bytes > group_max && !rows.is_empty()) {
                break;
            }
            let Some(batch) = item.batch.clone() else {
                break;
            };
            item.place = Place::Committing {
                acknowledged: false,
            };
            self.ram_bytes -= item.bytes;
            self.ram.remove(&id);
            self.committing.push(id);
            rows.push((id, batch));
        }
        rows
    }

    /// Acknowledged rows that are still in the spool.
    pub(super) fn gone(&self) -> usize {
        self.gone.len()
    }

    /// Marks up to `max` of them as under way out of it.
    pub(super) fn start_deletes(&mut self, max: usize) -> Vec<BatchId> {
        self.deleting = self.gone.iter().take(max).copied().collect();
        self.deleting.clone()
    }

    /// The transaction took effect. Returns the ranges that this settles. What is not in flight
    /// stays at hand until [`Window::leave_rest_to_spool`].
    pub(super) fn committed(&mut self) -> Vec<Stretch> {
        for id in std::mem::take(&mut self.deleting) {
            self.gone.remove(&id);
        }
        self.just_committed = !self.committing.is_empty();
        let drained = self.to_load().is_none();
        let mut settled = Vec::new();
        for (id, original) in std::mem::take(&mut self.giving_up) {
            self.given_up.add(&original);
            self.unsent.insert(id);
        }
        for id in std::mem::take(&mut self.committing) {
            self.spool_last = self.spool_last.max(id);
            if drained {
                self.load_after = self.load_after.max(id);
            }
            let Some(item) = self.items.get_mut(&id) else {
                continue;
            };
            if item.place == (Place::Committing { acknowledged: true }) {
                self.items.remove(&id);
                self.gone.insert(id);
                continue;
            }
            settled.push(item.stretch);
            item.place = Place::Spool;
            if item.in_flight || item.held {
                item.batch = None;
            }
        }
        settled
    }

    /// Drops the RAM copies of what came from RAM and is in the spool now, unsent.
    /// Returns whether there were any.
    pub(super) fn leave_rest_to_spool(&mut self) -> bool {
        if !std::mem::take(&mut self.just_committed) {
            return false;
        }
        let left: Vec<_> = self
            .unsent
            .iter()
            .filter(|id| {
                let item = self.items.get(id);
                item.is_some_and(|item| item.place == Place::Spool && !item.loaded)
            })
            .copied()
            .collect();
        let any = !left.is_empty();
        for id in left {
            self.leave_to_spool(id);
        }
        any
    }

    /// The transaction did not take effect.
    pub(super) fn commit_failed(&mut self) {
        self.deleting.clear();
        for id in std::mem::take(&mut self.committing) {
            let Some(item) = self.items.get_mut(&id) else {
                continue;
            };
            if let Some(mut original) = self.giving_up.remove(&id) {
                original.held = false;
                *item = original;
                self.unsent.insert(id);
            }
            if item.place == (Place::Committing { acknowledged: true }) {
                self.items.remove(&id);
                continue;
            }
            item.place = Place::Ram;
            self.ram_bytes += item.bytes;
            self.ram.insert(id);
        }
    }

    /// Behind what is loaded nothing is at hand, but what is in flight or acknowledged since before
    /// it was spooled, and what is being spooled now.
    pub(super) fn kept(&self) -> impl Iterator<Item = BatchId> {
        let behind = |id: &BatchId| *id > self.load_after && *id <= self.spool_last;
        let items = self.items.keys().copied().filter(behind);
        items.chain(self.gone.iter().copied().filter(behind))
    }

    /// Everything up to and with this id may be at hand.
    pub(super) fn load_after(&self) -> BatchId {
        self.load_after
    }

    /// Whether a batch that is only in RAM is not in flight either.
    pub(super) fn has_unsent_in_ram(&self) -> bool {
        let unsent = |id| self.items.get(id).is_some_and(|item| !item.in_flight);
        self.ram.iter().any(unsent)
    }

    /// Begins to give up the oldest batches that are only in RAM, up to `max` bytes of values but one
    /// at least, as far as their notices, made by `give_up`, take no more than `room`. Those in flight
    /// are left. The notices are then as under way to the spool, and not sent meanwhile; where the
    /// commit fails, the batches are as they were.
    pub(super) fn start_giving_up(
        &mut self,
        (max, room): (usize, u64),
        give_up: impl Fn(&Batch) -> Batch,
    ) -> Vec<(BatchId, Arc<Batch>)> {
        let (mut rows, mut bytes, mut left) = (Vec::new(), 0, room);
        let oldest: Vec<_> = self.ram.iter().copied().collect();
        for id in oldest {
            let Some(item) = self.items.get_mut(&id) else {
                break;
            };
            let Some(batch) = item.batch.as_ref().filter(|_| !item.in_flight) else {
                continue;
            };
            bytes += item.bytes;
            if bytes > max && !rows.is_empty() {
                break;
            }
            let place = Place::Committing {
                acknowledged: false,
            };
            let notice = Item::new(give_up(batch), place, item.queued);
            let Some(rest) = left.checked_sub(notice.bytes as u64) else {
                break;
            };
            left = rest;
            self.ram_bytes -= item.bytes;
            rows.extend(notice.batch.clone().map(|batch| (id, batch)));
            let original = std::mem::replace(item, notice);
            self.giving_up.insert(id, original);
            self.ram.remove(&id);
            self.unsent.remove(&id);
            self.held.forget(id);
            self.committing.push(id);
        }
        rows
    }

    /// What was given up since this was asked last.
    pub(super) fn take_given_up(&mut self) -> GivenUp {
        std::mem::take(&mut self.given_up)
    }

    /// Leaves out `count` ids, for rows that the store makes, and returns the first.
    pub(super) fn reserve(&mut self, count: u64) -> BatchId {
        let first = self.next;
        self.next = BatchId(first.0.saturating_add(count));
        first
    }

    /// The spool was salvaged, and ends with `last` now. It is read anew from behind `before`, where its
    /// rows begin: some may be there again that were delivered and deleted, also in earlier runs, with ids that
    /// this one has not come to yet.
    pub(super) fn healed(&mut self, before: BatchId, last: BatchId) {
        self.load_after = before;
        self.spool_last = self.spool_last.max(last);
        self.next = self.next.max(last.next());
    }

    /// Rows that are to be loaded before anything behind them is sent: behind the first, up to and
    /// with the second.
    pub(super) fn to_load(&self) -> Option<(BatchId, BatchId)> {
        (self.load_after < self.spool_last).then_some((self.load_after, self.spool_last))
    }

    /// Whether the broker has not acknowledged everything up to and with `through`.
    pub(super) fn is_behind(&self, through: BatchId) -> bool {
        let first = self.items.first_key_value();
        first.is_some_and(|(first, _)| *first <= through)
            || self.load_after < self.spool_last.min(through)
    }

    /// Rows came from the spool: all that are behind `asked_after`, up to and with `through`.
    pub(super) fn loaded(
        &mut self,
        rows: Vec<(BatchId, Batch)>,
        asked_after: BatchId,
        through: BatchId,
        now: Monotonic,
    ) {
        for (id, batch) in rows {
            // In flight, or acknowledged, since it was first sent: not again.
            if self.items.contains_key(&id) || self.gone.contains(&id) {
                continue;
            }
            self.items.insert(id, Item::new(batch, Place::Spool, now));
            self.unsent.insert(id);
        }
        let items = &self.items;
        self.held
            .forget_gone((asked_after, through), |id| items.contains_key(&id));
        // Where a row before them was left to the spool meanwhile, that comes first.
        if self.load_after == asked_after {
            self.load_after = through;
        }
    }
}
