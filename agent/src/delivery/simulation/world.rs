//! One world, and what happens in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_record::{Generation, Kind, SourceId, Span};

use super::super::allowance::Budgets;
use super::super::uplink::{Hours, Session, UplinkSettings};
use super::super::*;
use super::parts::{Broker, Disk, File, add, copy, empty, losses};
use crate::batch::Batch;
use crate::budget::{Budget, Shares};
use crate::produce::outcome::Outcome;
use crate::spool::{Checkpoint, Healing, Transaction, WhenFull};

/// Steps of a world in which things fail, between two starts at most.
const STEPS: u64 = 150;
const FILES: u64 = 3;

enum Request {
    Commit(Transaction),
    Load(BatchId, BatchId, u64),
    Heal(Healing),
}

pub(super) struct World {
    rng: Jitter,
    now: Monotonic,
    settings: Settings,
    lanes: [Lane; FILES as usize],
    files: Vec<File>,
    disk: Disk,
    broker: Broker,
    // What a crash takes.
    delivery: Delivery,
    budget: Budget,
    client: VecDeque<(BatchId, Arc<Batch>)>,
    reports: Vec<(BatchId, Outcome)>,
    requests: VecDeque<Request>,
    // How it goes.
    calm: bool,
    broker_up: bool,
    disk_works: bool,
    /// Commits that were refused for the floor, at this moment.
    floors: u32,
    damaged: bool,
    /// Rows that were deleted: their pages still hold them.
    deleted: BTreeMap<BatchId, Batch>,
    connected: bool,
    healed: bool,
    dropped: bool,
    refused: bool,
    done: bool,
}

/// The window, each lane that a file is of with its share.
fn window(settings: &Settings, lanes: &[Lane]) -> Budget {
    let mut shares = Shares::default();
    for lane in lanes {
        shares.waiting[lane.index()] = true;
    }
    Budget::with_shares(settings.window_bytes, shares)
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Jitter::new(seed);
        let mut pick = |choices: &[u64]| choices[(rng.draw() % choices.len() as u64) as usize];
        let settings = Settings {
            spool_after: Duration::from_millis(pick(&[0, 200, 2000, 2000])),
            spool_bytes_max: pick(&[300, 2000, 1 << 30]),
            uplink: uplink(&mut pick),
            flash_bytes_per_day: [None, None, Some(50_000)][pick(&[0, 1, 2]) as usize],
            when_full: [0; Lane::COUNT].map(|_| match pick(&[0, 1]) {
                0 => WhenFull::Pause,
                _ => WhenFull::DropOldest,
            }),
            checkpoint_every: Duration::from_millis(pick(&[1000, 60_000])),
            checkpoint_bytes: pick(&[100, 1 << 30]),
            window_bytes: pick(&[200, 1000, 10_000]) as usize,
            in_flight_bytes_max: pick(&[300, 3000]) as usize,
            flush: Duration::from_millis(pick(&[0, 2000])),
        };
        let files: Vec<File> = (1..=FILES)
            .map(|n| File {
                generation: Generation(n),
                length: pick(&[1, 40, 300]),
                read: 0,
                closed: false,
            })
            .collect();
        let lanes = [0; FILES as usize].map(|_| Lane::ALL[pick(&[0, 1, 1, 2]) as usize]);
        let mut broker = Broker::default();
        for file in &files {
            broker
                .missing
                .entry(file.generation)
                .or_default()
                .push(Span::new(0, file.length).unwrap());
        }
        let disk = Disk {
            rows: BTreeMap::new(),
            settled: files.iter().map(|file| (file.generation, 0)).collect(),
            ..Disk::default()
        };
        Self {
            delivery: Delivery::new(
                settings,
                seed,
                Depth::default(),
                Lane::ALL_FIRST.map(BatchId::before),
            ),
            budget: window(&settings, &lanes),
            lanes,
            rng,
            now: Monotonic(0),
            settings,
            files,
            disk,
            broker,
            client: VecDeque::new(),
            reports: Vec::new(),
            requests: VecDeque::new(),
            calm: false,
            broker_up: true,
            disk_works: true,
            floors: 0,
            damaged: false,
            deleted: BTreeMap::new(),
            connected: settings.uplink.connects_at_start(),
            healed: false,
            dropped: false,
            refused: false,
            done: false,
        }
    }

    pub(super) fn live(mut self) -> Counters {
        let lanes = self.lanes();
        self.delivery = self.delivery.with_lanes(lanes);
        let mut all = Counters::default();
        for _ in 0..1 + self.rng.draw() % 4 {
            for _ in 0..STEPS {
                self.step();
            }
            let stops = self.one_in(3);
            if stops {
                self.stop();
            }
            let counters = self.delivery.counters();
            all.spooled += counters.spooled;
            all.checkpoints += counters.checkpoints;
            all.retries += counters.retries;
            all.recreated += counters.recreated;
            all.refused += counters.refused;
            all.healed += counters.healed;
            all.dropped += counters.dropped;
            // Otherwise the next life, or the calm at the end, finds what this one left.
            if stops || self.one_in(2) {
                self.crash();
            }
        }
        (self.calm, self.broker_up, self.disk_works) = (true, true, true);
        self.disk.room = None;
        for _ in 0..100_000 {
            if self.is_delivered() {
                self.check_the_end();
                return all;
            }
            self.step();
        }
        panic!("it does not end: {self:#?}");
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.draw().is_multiple_of(n)
    }

    fn is_delivered(&self) -> bool {
        self.files.iter().all(|file| file.closed)
            && self.disk.rows.is_empty()
            && self.disk.settled.is_empty()
            && self.client.is_empty()
    }

    fn check_the_end(&mut self) {
        self.stop();
        for file in &self.files {
            let state = self
                .broker
                .ledger
                .get(file.stream().as_str(), file.generation)
                .expect("it arrived");
            assert_eq!(
                (state.settled, state.gaps.len()),
                (file.length, 0),
                "{file:?}"
            );
            assert!(state.closed.is_some(), "{file:?} is not closed");
            assert!(self.broker.missing[&file.generation].is_empty());
        }
        assert!(
            self.broker.news.values().all(|times| *times == 1),
            "a record was new twice"
        );
        assert!(
            // What was given up behind something in flight goes before it, after a crash.
            !self.broker.disordered || self.refused || self.dropped,
            "first arrivals are out of order"
        );
        assert!(
            self.healed || self.dropped || self.broker.noticed == 0,
            "lost without a cause"
        );
        assert_eq!(self.budget.used(), 0, "a permit was kept");
    }

    /// One thing happens, if it can.
    fn step(&mut self) {
        match self.rng.draw() % 12 {
            0..=2 => self.read(),
            3 | 4 => self.arrive(),
            5 | 6 => self.report(),
            7 | 8 => self.serve(),
            9 | 10 => self.pass(),
            _ if self.calm => {}
            _ => self.fail(),
        }
    }

    fn fail(&mut self) {
        match self.rng.draw() % 12 {
            0..=2 => self.broker_up = !self.broker_up,
            3 | 4 => self.disk_works = !self.disk_works,
            5 => {
                // Of what the client held, the first few may have arrived, and nobody hears of it.
                while self.broker_up && self.one_in(2) {
                    let Some((_, batch)) = self.client.pop_front() else {
                        break;
                    };
                    self.broker.arrive(&batch);
                }
                self.lose_client();
                self.apply(Event::ProducerLost);
            }
            6 => {
                // A batch comes back, having arrived or not.
                if let Some((id, batch)) = self.client.pop_front() {
                    if self.one_in(2) {
                        self.broker.arrive(&batch);
                    }
                    self.refused = true;
                    self.reports.push((id, Outcome::Retry));
                }
            }
            7 => self.crash(),
            9 => {
                self.floors = 0;
                self.disk.room = self
                    .rng
                    .draw()
                    .is_multiple_of(2)
                    .then_some(self.rng.draw() % 200)
            }
            8 => self.damaged |= self.one_in(2),
            _ => {}
        }
    }

    fn lose_client(&mut self) {
        self.client.clear();
        self.reports.clear();
    }

    fn read(&mut self) {
        let at = (self.rng.draw() % FILES) as usize;
        let records = 1 + self.rng.draw() % 5;
        let file = self.files[at].clone();
        if file.closed {
            return;
        }
        let mut batch = empty(file.stream(), file.generation, file.read);
        let mut add = |end, kind, value: &[u8]| add(&mut batch, end, kind, value);
        let (mut end, mut closes) = (file.read, false);
        for _ in 0..records {
            if end == file.length {
                add(
                    end,
                    Kind::Close,
                    br#"{"notice":"close","reason":"rotated","tail":"complete"}"#,
                );
                closes = true;
                break;
            }
            let start = end;
            end = file.record_end(start);
            add(end, Kind::Data, &vec![b'x'; (end - start) as usize * 2]);
        }
        // No room: the file waits.
        let Some(permit) = (self.budget).take(self.lanes[at], batch.values.len(), Duration::ZERO)
        else {
            return;
        };
        batch.permit = Some(permit);
        (self.files[at].read, self.files[at].closed) = (end, closes);
        self.apply(Event::Queued(batch));
    }

    fn arrive(&mut self) {
        if !self.broker_up {
            return;
        }
        if let Some((id, batch)) = self.client.pop_front() {
            self.broker.arrive(&batch);
            self.reports.push((id, Outcome::Delivered));
        }
    }

    fn report(&mut self) {
        if !self.reports.is_empty() {
            let at = self.rng.draw() as usize % self.reports.len();
            let (id, outcome) = self.reports.remove(at);
            self.apply(Event::Reported { id, outcome });
        }
    }

    fn serve(&mut self) {
        let works = self.disk_works;
        let reply = match self.requests.pop_front() {
            None => return,
            Some(Request::Commit(_)) if !works => Reply::CommitFailed(Trouble::Full),
            Some(Request::Load(..)) if !works => Reply::LoadFailed(Trouble::Io),
            Some(Request::Heal(_)) if !works => Reply::HealFailed(Trouble::Full),
            Some(Request::Commit(_)) if self.damaged => Reply::CommitFailed(Trouble::Damaged),
            Some(Request::Load(..)) if self.damaged => Reply::LoadFailed(Trouble::Damaged),
            Some(Request::Heal(healing)) => self.heal(&healing),
            Some(Request::Commit(transaction)) if self.is_below_the_floor(&transaction) => {
                self.floors += 1;
                assert!(self.floors < 10, "it asks for room again and again");
                Reply::CommitFailed(Trouble::Floor)
            }
            Some(Request::Commit(transaction)) => {
                self.commit(transaction);
                Reply::Committed(self.disk.depth())
            }
            Some(Request::Load(after, through, bytes_max)) => self.load(after, through, bytes_max),
        };
        self.apply(Event::Store(reply));
    }

    /// Some rows are gone, and some that were deleted may be back; what is settled and nowhere else is said
    /// to be lost, in rows at the end.
    fn heal(&mut self, healing: &Healing) -> Reply {
        (self.damaged, self.healed, self.refused) = (false, true, true);
        self.disk.notices.clear();
        for (id, row) in std::mem::take(&mut self.deleted) {
            if self.one_in(3) {
                self.disk.rows.entry(id).or_insert(row);
            }
        }
        let ids: Vec<_> = self.disk.rows.keys().copied().collect();
        for id in ids {
            if self.one_in(3) {
                self.disk.rows.remove(&id);
            }
        }
        let lanes = self.lanes();
        for file in &self.files {
            let lane = lanes[&file.stream().source().parse().unwrap()].index();
            let mut next = healing.first_free[lane].max(self.disk.last()[lane].next());
            let settled = self.disk.settled.get(&file.generation).copied();
            let end = settled.unwrap_or(file.length);
            for batch in losses(file, &self.disk, end, (settled.is_none(), &healing.beyond)) {
                self.disk.rows.insert(next, batch);
                next = next.next();
            }
        }
        Reply::Healed {
            depth: self.disk.depth(),
            last: self.disk.last(),
        }
    }

    fn lanes(&self) -> BTreeMap<SourceId, Lane> {
        let files = self.files.iter().zip(self.lanes);
        files
            .map(|(file, lane)| (file.stream().source().parse().unwrap(), lane))
            .collect()
    }

    fn is_below_the_floor(&self, transaction: &Transaction) -> bool {
        let rows = transaction.rows.iter();
        let bytes: u64 = rows.map(|(_, batch)| batch.values.len() as u64).sum();
        let freed = (transaction.evict.as_ref()).map_or(0, |evict| self.disk.evictable(evict));
        let grows = bytes.saturating_sub(freed);
        self.disk.room.is_some_and(|room| room < grows)
    }

    fn commit(&mut self, transaction: Transaction) {
        let rows = transaction.rows.iter();
        let new_bytes: u64 = rows.map(|(_, batch)| batch.values.len() as u64).sum();
        let bytes = self.disk.depth().bytes + new_bytes;
        let is_within = bytes <= self.settings.spool_bytes_max;
        assert!(
            new_bytes == 0 || transaction.evict.is_some() || is_within,
            "{bytes} bytes are more than the spool may hold"
        );
        self.disk.written += 1000 + 2 * new_bytes;
        if let Some(evict) = &transaction.evict {
            self.disk.evict(evict, new_bytes);
        }
        for (id, batch) in transaction.rows {
            let old = self.disk.rows.insert(id, copy(&batch));
            // Unless it came back with a salvage, having been delivered under the same id in another life.
            assert!(old.is_none() || self.healed, "the id {id} was given twice");
        }
        for id in transaction.deletes {
            let Some(row) = self.disk.rows.remove(&id) else {
                assert!(self.healed, "row {id} is deleted twice");
                continue;
            };
            let span = Span::new(row.start, row.end()).unwrap();
            assert!(
                self.broker.has(row.generation, span),
                "row {id} was deleted before it arrived"
            );
            self.deleted.insert(id, row);
        }
        for Checkpoint {
            generation,
            settled,
            closed,
        } in transaction.checkpoints
        {
            let before = self.disk.settled.insert(generation, settled);
            assert!(
                before.is_some_and(|before| before <= settled),
                "{generation} goes back"
            );
            let mut open = self.broker.missing[&generation].clone();
            for row in self
                .disk
                .rows
                .values()
                .filter(|row| row.generation == generation)
            {
                open.remove(Span::new(row.start, row.end()).unwrap());
            }
            let below = open.iter().next().map_or(u64::MAX, Span::start);
            assert!(
                below >= settled,
                "{generation} is settled to {settled}, and {below} is nowhere"
            );
            if closed {
                self.disk.settled.remove(&generation);
            }
        }
        let data: u64 = self.disk.depth().data_bytes.iter().sum();
        // What was in flight, loaded, or acknowledged and not yet deleted could not give way.
        let most = self.settings.spool_bytes_max + self.settings.in_flight_bytes_max as u64 + 1500;
        assert!(data <= most, "the spool is too large: {data}");
    }

    fn load(&self, after: BatchId, through: BatchId, bytes_max: u64) -> Reply {
        let (mut rows, mut bytes, mut reached) = (Vec::new(), 0, through);
        let behind = self.disk.rows.range(after.next()..);
        for (id, batch) in behind.take_while(|(id, _)| **id <= through) {
            bytes += batch.values.len() as u64;
            if bytes > bytes_max && !rows.is_empty() {
                reached = rows.last().map_or(after, |(id, _)| *id);
                break;
            }
            rows.push((*id, copy(batch)));
        }
        Reply::Loaded {
            rows,
            through: reached,
            lost: 0,
        }
    }

    /// Time passes: a little, or to the next deadline.
    fn pass(&mut self) {
        let step = self.rng.draw() % 300;
        let deadline = self
            .delivery
            .next_deadline()
            .filter(|_| self.rng.draw().is_multiple_of(3));
        let now = deadline.unwrap_or(Monotonic(self.now.0 + step));
        if now > self.now {
            (self.now, self.floors) = (now, 0);
        }
        self.apply(Event::Tick);
    }

    fn apply(&mut self, event: Event) {
        self.delivery.apply(event, self.now);
        self.dropped |= self.delivery.counters().dropped + self.disk.evicted.rows > 0;
        while let Some(action) = self.delivery.next_action() {
            match action {
                Action::Send { id, batch } => {
                    assert!(self.connected, "sent to nobody");
                    self.client.push_back((id, batch));
                }
                Action::Disconnect => {
                    self.connected = false;
                    self.lose_client();
                }
                Action::Commit(transaction) => {
                    self.requests.push_back(Request::Commit(transaction))
                }
                Action::Load {
                    after,
                    through,
                    bytes_max,
                } => {
                    self.requests
                        .push_back(Request::Load(after, through, bytes_max));
                }
                Action::Heal(healing) => self.requests.push_back(Request::Heal(healing)),
                Action::Recreate => {
                    self.connected = true;
                    self.lose_client();
                }
                Action::Say(_) => {}
                Action::Done => self.done = true,
            }
        }
        assert!(
            self.requests.len() <= 2,
            "one transaction and one load at a time"
        );
        let cost: usize = self
            .client
            .iter()
            .map(|(_, batch)| batch.values.len() + 256 * batch.entries.len())
            .sum();
        assert!(
            cost <= self.settings.in_flight_bytes_max || self.client.len() == 1,
            "too much is in flight"
        );
        let known = self.delivery.window.in_flight();
        let (sent, reported) = (self.client.len(), self.reports.len());
        assert_eq!(
            known.batches,
            sent + reported,
            "what is in flight is miscounted"
        );
        assert!(sent + reported > 0 || known.cost == 0, "{known:?}");
        let deadline = self.delivery.next_deadline();
        assert!(
            deadline.is_none_or(|at| at > self.now),
            "{deadline:?} is past at {:?}",
            self.now
        );
    }

    /// An orderly stop. Where the disk works and has room, nothing that was read is left behind.
    fn stop(&mut self) {
        self.apply(Event::Stop);
        for _ in 0..10_000 {
            if self.done {
                break;
            }
            match self.rng.draw() % 4 {
                0 => self.arrive(),
                1 => self.report(),
                2 => self.serve(),
                _ => self.pass(),
            }
        }
        assert!(self.done, "the stop does not end: {:#?}", self.delivery);
        if self.disk_works
            && self.disk.room.is_none()
            && !self.damaged
            && self.delivery.depth().bytes + 1000 < self.settings.spool_bytes_max
            && self.requests.is_empty()
        {
            for file in &self.files {
                let settled = self.disk.settled.get(&file.generation);
                let read = if file.closed { None } else { Some(&file.read) };
                assert_eq!(settled, read, "{file:?} is left behind");
            }
        }
    }

    /// The power goes, and comes back. A transaction that was under way took effect or did not.
    fn crash(&mut self) {
        if self.disk_works && self.one_in(2) {
            let under_way = std::mem::take(&mut self.requests);
            for request in under_way {
                if let Request::Commit(transaction) = request {
                    self.commit(transaction);
                }
            }
        }
        while self.broker_up && self.one_in(2) {
            let Some((_, batch)) = self.client.pop_front() else {
                break;
            };
            self.broker.arrive(&batch);
        }
        self.requests.clear();
        self.lose_client();
        self.disk.notices.clear();
        if self.damaged {
            self.heal(&Healing::default());
        }
        let last = self.disk.last();
        self.delivery = Delivery::new(self.settings, self.rng.draw(), self.disk.depth(), last)
            .with_lanes(self.lanes());
        self.budget = window(&self.settings, &self.lanes);
        self.done = false;
        self.connected = self.settings.uplink.connects_at_start();
        for file in &mut self.files {
            let settled = self.disk.settled.get(&file.generation);
            file.closed = settled.is_none();
            file.read = settled.copied().unwrap_or(file.length);
        }
        self.apply(Event::Tick);
    }
}

fn uplink(pick: &mut impl FnMut(&[u64]) -> u64) -> UplinkSettings {
    UplinkSettings {
        session: [Session::Always, Session::Cycle][pick(&[0, 0, 1]) as usize],
        every: Duration::from_millis(pick(&[1000, 20_000])),
        place: pick(&[0, 777]),
        hours: (pick(&[0, 0, 0, 1]) == 1).then_some(Hours { from: 3, to: 2 }),
        budgets: Budgets::default(),
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("files", &self.files)
            .field("settled", &self.disk.settled)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}
