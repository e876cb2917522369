//! When the database is written, and what goes into a transaction: rows that are late, deletions
//! that have gathered, and with either of them, or by themselves, checkpoints. Pure.
//!
//! Flash wears: while the broker acknowledges, nothing is written but a checkpoint now and then.
//! One transaction is under way at a time.

use std::time::Duration;

use super::backoff::{Backoff, Jitter};
use super::room::Room;
use super::{Action, Delivery, Moved, News, Phase};
use crate::clock::Monotonic;
use crate::spool::{BatchId, Checkpoint, Depth, Healing, Lane, Transaction, Trouble};

/// Values of one transaction, in bytes: a bound on how long it takes and on what it packs. Half of
/// the default window: each commit writes the ends of the trees and the sums again, so few large ones
/// wear the flash less.
pub(super) const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;
/// While values of fewer bytes than this are settled beyond the last checkpoint,
const LITTLE_BYTES: u64 = 1024 * 1024;
/// it waits this many times as long: it costs some 16 KB of flash, and a crash little to send again.
const LITTLE_TIMES: u32 = 5;
/// A closed generation's checkpoint waits this long for others: rotations come together.
const CLOSE_DELAY: Duration = Duration::from_secs(1);
/// Deletions wait this long for others,
const DELETE_DELAY: Duration = Duration::from_millis(500);
/// or until there are so many.
const DELETES_DUE: usize = 64;
/// Most deletions of one transaction.
const DELETES_MAX: usize = 1024;
/// Ids that a salvage may give to its notices: far more than there can be holes to tell of.
const HEAL_IDS: u64 = 1 << 24;
/// Rows that cannot be read for so long, on a disk that takes commits, will not be read any more.
const UNREAD_MAX: Duration = Duration::from_secs(600);
/// What failed longer ago, and was not tried since (nothing is read between the sessions of a cycle), does not
/// count: more than twice the longest wait between two tries.
const UNREAD_EVERY_MAX: Duration = Duration::from_secs(180);
/// How long a stop tries to commit what is left, before it gives up on a disk that refuses.
pub(super) const LAST_COMMIT_MAX: Duration = Duration::from_secs(5);

/// A transaction that the store has not answered.
#[derive(Debug)]
pub(super) struct UnderWay {
    checkpoints: Vec<Checkpoint>,
    rows: u64,
    /// Others give way to all of them, since the disk was known to have no room.
    pub(super) evicts: bool,
    pub(super) since: Monotonic,
}

/// How it stands with the database.
#[derive(Debug, Default)]
pub(super) struct Disk {
    backoff: Backoff,
    /// Nothing is asked of it before.
    pub(super) not_before: Monotonic,
    /// What it said last.
    trouble: Option<Trouble>,
}

impl Disk {
    /// Counts a failure, and returns whether it is news.
    pub(super) fn failed(&mut self, trouble: Trouble, jitter: &mut Jitter, now: Monotonic) -> bool {
        let wait = Duration::from_millis(self.backoff.next_ms(jitter));
        self.not_before = now.plus(wait);
        self.trouble.replace(trouble) != Some(trouble)
    }

    /// It worked; returns whether that is news.
    fn worked(&mut self) -> bool {
        self.backoff.reset();
        self.trouble.take().is_some()
    }

    /// Why it refuses; none where it does not.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// Tries at once, whatever was before.
    pub(super) fn try_now(&mut self) {
        self.backoff.reset();
        self.not_before = Monotonic::default();
    }
}

/// Rows that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    /// Since when,
    since: Monotonic,
    /// and when that was seen last.
    last: Monotonic,
    /// Whether the disk took a commit meanwhile.
    commits: bool,
}

#[derive(Debug)]
pub(super) struct Writing {
    pub(super) depth: Depth,
    pub(super) disk: Disk,
    pub(super) under_way: Option<UnderWay>,
    /// The database is damaged: nothing is asked of it but to be salvaged,
    pub(super) damaged: bool,
    /// which is under way.
    pub(super) healing: bool,
    /// It did not succeed the last time.
    pub(super) heals_failed: bool,
    /// That the disk fails to read rows.
    pub(super) unread: Option<Unread>,
    pub(super) room: Room,
    /// Since when something has been settled that no checkpoint shows, and values of how many bytes.
    moved_since: Option<Monotonic>,
    moved_bytes: u64,
    closed_since: Option<Monotonic>,
    gone_since: Option<Monotonic>,
}

impl Writing {
    pub(super) fn new(depth: Depth) -> Self {
        Self {
            depth,
            disk: Disk::default(),
            under_way: None,
            damaged: false,
            healing: false,
            heals_failed: false,
            unread: None,
            room: Room::default(),
            moved_since: None,
            moved_bytes: 0,
            closed_since: None,
            gone_since: None,
        }
    }

    /// A batch of `bytes` was acknowledged, and that settles what `moved` says.
    pub(super) fn settled(&mut self, moved: Moved, bytes: usize, now: Monotonic) {
        self.moved_bytes = self.moved_bytes.saturating_add(bytes as u64);
        if moved != Moved::Nothing {
            self.moved_since.get_or_insert(now);
        }
        if moved == Moved::Closed {
            self.closed_since.get_or_insert(now);
        }
    }

    /// So many rows are acknowledged and still there.
    pub(super) fn note_gone(&mut self, gone: usize, now: Monotonic) {
        if gone > 0 {
            self.gone_since.get_or_insert(now);
        }
    }

    /// The disk failed to read rows, again or for the first time. Whether they are lost: one sector that
    /// cannot be read would otherwise hold up for ever what lies behind it.
    pub(super) fn is_unreadable(&mut self, now: Monotonic) -> bool {
        let known = self
            .unread
            .filter(|known| now.since(known.last) < UNREAD_EVERY_MAX);
        let known = known.unwrap_or(Unread {
            since: now,
            last: now,
            commits: false,
        });
        self.unread = Some(Unread { last: now, ..known });
        known.commits && now.since(known.since) >= UNREAD_MAX
    }

    /// Nothing can be spooled now: what must be on disk before it is sent goes without.
    pub(super) fn refuses(&self) -> bool {
        self.room.any_full() || self.disk.trouble.is_some()
    }
}

impl Delivery {
    /// When a transaction is due; nothing while one is under way, or where there is nothing to write.
    pub(super) fn commit_at(&self) -> Option<Monotonic> {
        let writing = &self.writing;
        if writing.under_way.is_some()
            || writing.damaged
            || matches!(self.phase, Phase::Done { .. })
        {
            return None;
        }
        let due = [self.rows_at(), self.checkpoint_at(), self.deletes_at()];
        let due = due.into_iter().flatten().min()?;
        let flash = if self.is_last_commit() {
            Monotonic::default()
        } else {
            self.flash.not_before()
        };
        Some(due.max(self.writing.disk.not_before).max(flash))
    }

    /// When a salvage is due: at once, but for the back-off of those that failed; and after the
    /// store has answered what it was asked before.
    pub(super) fn heal_at(&self) -> Option<Monotonic> {
        let writing = &self.writing;
        let is_asked = writing.under_way.is_some() || self.loading.is_some() || writing.healing;
        let due = writing.damaged && !is_asked && !matches!(self.phase, Phase::Done { .. });
        due.then_some(if writing.heals_failed {
            writing.disk.not_before
        } else {
            Monotonic::default()
        })
    }

    pub(super) fn heal(&mut self) {
        self.writing.healing = true;
        let first_free = self.window.reserve(HEAL_IDS);
        let beyond = self.settling.beyond_checkpoints();
        self.actions
            .push_back(Action::Heal(Healing { first_free, beyond }));
    }

    pub(super) fn healed(&mut self, depth: Depth, last: [BatchId; Lane::COUNT], now: Monotonic) {
        let writing = &mut self.writing;
        (writing.damaged, writing.healing, writing.heals_failed) = (false, false, false);
        writing.unread = None;
        // The store's sum goes on: what was evicted before is counted.
        let evicted = writing.depth.evicted;
        writing.depth = Depth { evicted, ..depth };
        writing.room.committed(false);
        writing.disk.try_now();
        self.window.healed(last);
        self.counters.healed += 1;
        self.writing.note_gone(self.window.gone(), now);
        if self.writing.disk.worked() {
            self.say(News::DiskWell);
        }
    }

    fn is_last_commit(&self) -> bool {
        matches!(self.phase, Phase::Committing(_))
    }

    /// When the oldest batch in RAM is late.
    fn rows_at(&self) -> Option<Monotonic> {
        let lanes = Lane::ALL.into_iter();
        lanes.filter_map(|lane| self.rows_of_lane_at(lane)).min()
    }

    fn rows_of_lane_at(&self, lane: Lane) -> Option<Monotonic> {
        let oldest = self.window.of(lane).oldest_in_ram()?;
        if let Some(until) = self.writing.room.waits(lane) {
            return until;
        }
        // Rows that are being read cannot give way; the answer is a moment away.
        if self.waits_for_load(lane) {
            return None;
        }
        // Nobody acknowledges, and the sources are about to wait: they need not.
        let nobody = self.broker.silent || self.broker.clock_unset || !self.may_send(lane);
        // Half of it, or of what the lane may have: it leaves shares to those above.
        let window = self.settings.window_bytes;
        let most = window / 2 - window / 8 * self.allowance.lanes_above(lane);
        let crowded = nobody && self.window.ram_bytes() >= most;
        if crowded || self.is_last_commit() {
            return Some(oldest);
        }
        Some(oldest.plus(self.flash.stretched(self.settings.spool_after)))
    }

    fn checkpoint_at(&self) -> Option<Monotonic> {
        let since = self.writing.moved_since?;
        if self.writing.moved_bytes >= self.settings.checkpoint_bytes || self.is_last_commit() {
            return Some(since);
        }
        let closed = self
            .writing
            .closed_since
            .map(|since| since.plus(CLOSE_DELAY));
        let is_little = self.writing.moved_bytes < LITTLE_BYTES;
        let times = if is_little { LITTLE_TIMES } else { 1 };
        let every = self.settings.checkpoint_every.saturating_mul(times);
        let regular = since.plus(self.flash.stretched(every));
        Some(closed.map_or(regular, |closed| closed.min(regular)))
    }

    fn deletes_at(&self) -> Option<Monotonic> {
        let since = self.writing.gone_since?;
        let now = self.window.gone() >= DELETES_DUE || self.is_last_commit();
        let delay = self.flash.stretched(DELETE_DELAY);
        Some(if now { since } else { since.plus(delay) })
    }

    pub(super) fn commit(&mut self, now: Monotonic) {
        if self.writing.room.is_look_due(now) {
            self.writing.look_again();
        }
        let (mut rows, mut evict) = (Vec::new(), None);
        for lane in Lane::ALL {
            let is_late = self.rows_of_lane_at(lane).is_some_and(|at| at <= now);
            if is_late && rows.is_empty() {
                let oldest = self.window.of(lane).oldest_in_ram();
                (rows, evict) = self.start_spooling(lane, now);
                if !rows.is_empty() {
                    self.note_late(lane, oldest, now);
                }
            }
        }
        let spooling = rows.iter().filter_map(|(id, _)| self.window.stretch(*id));
        let checkpoints = self.settling.checkpoints(spooling);
        let deletes = self.window.start_deletes(DELETES_MAX);
        if rows.is_empty() && checkpoints.is_empty() && deletes.is_empty() {
            (self.writing.moved_since, self.writing.gone_since) = (None, None);
            return;
        }
        self.writing.under_way = Some(UnderWay {
            checkpoints: checkpoints.clone(),
            rows: rows.len() as u64,
            evicts: evict.is_some() && self.writing.depth.room == Some(0),
            since: now,
        });
        let usage = self.usage(now);
        self.actions.push_back(Action::Commit(Transaction {
            rows,
            deletes,
            checkpoints,
            evict,
            usage,
        }));
    }

    /// A batch queued at `oldest` was late. On a slow uplink some always are; where nothing at all
    /// was acknowledged since, and an answer would have come by now, the broker is silent.
    fn note_late(&mut self, lane: Lane, oldest: Option<Monotonic>, now: Monotonic) {
        let before_sending = self.settings.spool_after.is_zero()
            || self.phase != Phase::Running
            || self.broker.clock_unset
            || !self.may_send(lane);
        if before_sending || self.broker.acknowledged > oldest || self.broker.is_slow(now) {
            return;
        }
        self.is_silent();
    }

    pub(super) fn committed(&mut self, depth: Depth, now: Monotonic) {
        let Some(done) = self.writing.under_way.take() else {
            return;
        };
        for stretch in self.window.committed() {
            self.settling.settle(stretch);
        }
        self.settling.committed(&done.checkpoints);
        self.counters.spooled += done.rows;
        self.counters.checkpoints += u64::from(!done.checkpoints.is_empty());

        let writing = &mut self.writing;
        if let Some(unread) = &mut writing.unread {
            unread.commits = true;
        }
        let evicted = writing.depth.evicted;
        self.counters.dropped += depth.evicted.rows.saturating_sub(evicted.rows);
        self.counters.dropped_records += depth.evicted.records.saturating_sub(evicted.records);
        let given = self.window.take_given_up();
        self.counters.dropped += given.batches;
        self.counters.dropped_records += given.records;
        writing.depth = depth;
        // What was acknowledged while the transaction was under way waits from now on.
        writing.moved_since = self.settling.moved().then_some(now);
        writing.moved_bytes = 0;
        writing.closed_since = self.settling.any_closed().then_some(now);
        writing.gone_since = (self.window.gone() > 0).then_some(now);
        let has_room = depth.bytes <= self.settings.spool_bytes_max / 10 * 9
            && depth.room.is_none_or(|room| room >= GROUP_BYTES_MAX as u64);
        let was_full = writing.room.committed(has_room);
        if self.writing.disk.worked() {
            self.say(News::DiskWell);
        }
        if was_full {
            self.say(News::SpoolRoom);
        }
        if let Some(written) = depth.written {
            self.note_written(written, now);
        }
        self.counters.flash_waits += u64::from(self.flash.not_before() > now);
    }
}
