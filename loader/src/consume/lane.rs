//! One partition's way from the poll thread to its worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;

use crate::consume::HandOver;
use crate::consume::prefetch::{Gathering, Prefetch};
use crate::consume::tenure::Tenant;
use crate::fetched::{Fetched, Identity};

/// One partition's way to its worker.
#[derive(Debug)]
pub(super) struct Lane {
    /// None when its worker takes no more.
    pub(super) records: Option<mpsc::Sender<HandOver>>,
    filling: Fetched,
    /// Its bytes, in the bound over all.
    gathering: Gathering,
    /// Bytes that its worker has not taken in yet.
    pub(super) outstanding: Arc<AtomicUsize>,
    /// Something of it was read.
    has_read: bool,
    /// No room for it: it is paused until there is.
    pub(super) paused: bool,
    /// Tells its worker to finish, or to stop; and that the partition is gone, when this is.
    pub(super) tenant: Tenant,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// Nothing waits any more.
    Taken,
    /// There is no room for it now.
    NoRoom,
    /// Its worker takes no more. What gathered, and what was queued, is gone: it is read again, by whoever is
    /// given the partition next.
    Orphaned,
}

impl Lane {
    /// Where its records go; none when its worker takes no more.
    pub(super) fn live(&self) -> Option<&mpsc::Sender<HandOver>> {
        self.records.as_ref().filter(|records| !records.is_closed())
    }

    /// A lane to a worker. `prefetch`: the bound that it is under.
    pub(super) fn new(
        records: mpsc::Sender<HandOver>,
        tenant: Tenant,
        prefetch: &Arc<Prefetch>,
    ) -> Self {
        Self {
            records: Some(records),
            filling: Fetched::default(),
            gathering: prefetch.gather(),
            outstanding: Arc::default(),
            has_read: false,
            paused: false,
            tenant,
        }
    }

    /// Who the last record that gathered is.
    pub(super) fn last(&self) -> Option<&Identity> {
        self.filling.entries.last().map(|entry| &entry.identity)
    }

    /// Gathers a record, and says how many bytes there are now.
    pub(super) fn push(
        &mut self,
        offset: u64,
        time_ms: u64,
        value: Option<&[u8]>,
        identity: Identity,
    ) -> usize {
        self.has_read = true;
        self.filling.push(offset, time_ms, value, identity);
        let bytes = self.filling.held();
        self.gathering.set(bytes);
        bytes
    }

    /// Tries to hand over what has gathered.
    fn offer(&mut self, prefetch: &Arc<Prefetch>, partitions: usize) -> Offer {
        let records = self.records.as_ref();
        let Some(records) = records.filter(|records| !records.is_closed()) else {
            let was_live = self.records.take().is_some();
            self.filling = Fetched::default();
            self.gathering.set(0);
            return match was_live {
                true => Offer::Orphaned,
                false => Offer::Taken,
            };
        };
        if self.filling.entries.is_empty() {
            return Offer::Taken;
        }
        let Ok(slot) = records.try_reserve() else {
            return Offer::NoRoom;
        };
        let bytes = self.filling.held();
        let Some(permit) = prefetch.admit(&self.outstanding, partitions, bytes) else {
            return Offer::NoRoom;
        };
        let next = Fetched::like(&self.filling);
        let fetched = std::mem::replace(&mut self.filling, next);
        self.gathering.set(0);
        slot.send(HandOver { fetched, permit });
        Offer::Taken
    }
}

/// The lanes of the partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<i32, Lane>);

/// What has to be done in the client behind an offer of everything.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// Something waits for room.
    pub(super) waiting: bool,
    /// Partitions to be read on.
    pub(super) resume: Vec<i32>,
    /// Partitions that nobody takes records of any more.
    pub(super) orphaned: Vec<i32>,
}

impl Lanes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get_mut(&mut self, partition: i32) -> Option<&mut Lane> {
        self.0.get_mut(&partition)
    }

    pub(super) fn open(&mut self, partition: i32, lane: Lane) {
        self.0.insert(partition, lane);
    }

    pub(super) fn close(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    pub(super) fn close_all(&mut self) {
        self.0.clear();
    }

    /// Tells the workers of these partitions to write what is open, and to end.
    pub(super) fn finish(&self, mut which: impl FnMut(i32) -> bool) {
        let all = self.0.iter().filter(|(partition, _)| which(**partition));
        all.for_each(|(_, lane)| lane.tenant.finish());
    }

    /// Tells a partition's worker that nothing of it can be read. `false`: that is not so, or nobody is there
    /// whom it would stop.
    pub(super) fn stop(&self, partition: i32, reason: String) -> bool {
        let lane = self.0.get(&partition);
        let lane = lane.filter(|lane| !lane.has_read && lane.live().is_some());
        lane.is_some_and(|lane| {
            lane.tenant.stop(reason);
            true
        })
    }

    /// Whether the workers of these partitions have ended.
    pub(super) fn have_ended(&self, mut which: impl FnMut(i32) -> bool) -> bool {
        let mut all = self.0.iter().filter(|(partition, _)| which(**partition));
        all.all(|(_, lane)| lane.live().is_none())
    }

    /// Offers what has gathered for a partition.
    pub(super) fn offer(&mut self, partition: i32, prefetch: &Arc<Prefetch>) -> Offer {
        let partitions = self.len();
        let lane = self.0.get_mut(&partition);
        lane.map_or(Offer::Taken, |lane| lane.offer(prefetch, partitions))
    }

    /// Offers what has gathered for each.
    pub(super) fn offer_all(&mut self, prefetch: &Arc<Prefetch>) -> Offers {
        let partitions = self.len();
        let mut offers = Offers::default();
        for (partition, lane) in &mut self.0 {
            match lane.offer(prefetch, partitions) {
                Offer::Taken if lane.live().is_some() && std::mem::take(&mut lane.paused) => {
                    offers.resume.push(*partition);
                }
                Offer::Taken => {}
                Offer::NoRoom => offers.waiting = true,
                Offer::Orphaned => offers.orphaned.push(*partition),
            }
        }
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::tenure::tenure;

    /// A lane with what was read for it, and its worker's end.
    fn lane(prefetch: &Arc<Prefetch>, read: usize) -> (Lane, mpsc::Receiver<HandOver>) {
        let (records, receiver) = mpsc::channel(2);
        let mut lane = Lane::new(records, tenure().0, prefetch);
        for offset in 0..read {
            lane.push(offset as u64, 0, Some(&[7; 100]), Identity::Foreign);
        }
        (lane, receiver)
    }

    #[test]
    fn nothing_is_kept_for_a_worker_that_has_ended() {
        let prefetch = Arc::new(Prefetch::new(1));
        let mut lanes = Lanes::default();
        let (dead, receiver) = lane(&prefetch, 3);
        let (live, mut alive) = lane(&prefetch, 0);
        let slots = dead.records.clone().unwrap();
        lanes.open(3, dead);
        lanes.open(4, live);
        assert_eq!(lanes.offer(3, &prefetch), Offer::Taken);
        assert!(prefetch.held() > 300);
        // A place in the queue that is filled when its worker has ended already.
        let late = slots.try_reserve().unwrap();
        drop(receiver);
        let permit = prefetch.admit(&Arc::default(), 2, 0).unwrap();
        let fetched = Fetched::default();
        late.send(HandOver { fetched, permit });
        drop(slots);
        lanes.get_mut(3).unwrap().paused = true;
        let of = |lanes: &mut Lanes, partition| {
            let lane = lanes.get_mut(partition).unwrap();
            lane.push(9, 0, None, Identity::Foreign);
        };
        of(&mut lanes, 3);
        of(&mut lanes, 4);
        let expected = Offers {
            orphaned: vec![3],
            ..Offers::default()
        };
        assert_eq!(lanes.offer_all(&prefetch), expected);
        assert!(lanes.get_mut(3).unwrap().live().is_none());
        assert_eq!(lanes.offer_all(&prefetch), Offers::default());
        assert_eq!(alive.try_recv().unwrap().fetched.entries.len(), 1);
        assert_eq!(prefetch.held(), 0);
    }

    #[test]
    fn one_that_was_paused_goes_on_when_there_is_room() {
        let prefetch = Arc::new(Prefetch::new(1));
        let mut lanes = Lanes::default();
        let (full, mut receiver) = lane(&prefetch, 1);
        lanes.open(3, full);
        assert_eq!(lanes.offer(3, &prefetch), Offer::Taken);
        let lane = lanes.get_mut(3).unwrap();
        lane.push(1, 0, None, Identity::Foreign);
        lane.paused = true;
        assert!(lanes.offer_all(&prefetch).waiting);
        drop(receiver.try_recv().unwrap());
        let expected = Offers {
            resume: vec![3],
            ..Offers::default()
        };
        assert_eq!(lanes.offer_all(&prefetch), expected);
        assert_eq!(lanes.offer_all(&prefetch), Offers::default());
    }
}
