//! What the database knows of each generation, as the sources read it at start and write it when
//! they meet a new file. Plain data: the spool's store keeps it, the sources use it.

mod earlier;

use headwater_record::{Generation, StreamId};

pub use self::earlier::keep as keep_earlier;

/// Who a file is: where it lay, and what it began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    /// Path at which it was last seen, as bytes of the file system.
    pub path: Vec<u8>,
    /// Device number of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// How many of its first bytes the fingerprint covers.
    pub fingerprint_len: u32,
    /// CRC-32C of those bytes.
    pub fingerprint: u32,
    /// When it had been changed last as far as is known, Unix milliseconds by its file system: what
    /// rotated away before it is older, what took its place is younger, and a copy of it too. Of one of which
    /// no first byte is known: as of when that was known to be so.
    pub since_ms: u64,
}

/// What lies right before an offset of a file. Found there again, it tells that the file is still
/// the one that was read, however much longer it is now; a file that was cut to nothing and grew
/// past the offset has other bytes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The offset.
    pub end: u64,
    /// How many bytes before it the sum covers.
    pub len: u32,
    /// CRC-32C of those bytes.
    pub sum: u32,
}

/// What a generation is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(FileIdentity),
    /// One start of the agent, for a sensor.
    Sensor,
}

/// One generation that is open: registered, and not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGeneration {
    /// Its random name.
    pub generation: Generation,
    /// Its stream.
    pub stream: StreamId,
    /// What it is of.
    pub origin: Origin,
    /// Settled offset: everything below is acknowledged by the broker or in the spool.
    pub settled: u64,
    /// Reading begins here, if `settled` is below: what lies before was there when the file was first
    /// seen, and the source is configured to start at the end. Those bytes are skipped, and the
    /// span of the generation's first record covers them.
    pub skip_to: Option<u64>,
    /// Record boundaries above `settled` that the bytes alone would not give, rising (the end of a
    /// last line without a newline, of an event that went on no further in time): a reader honours
    /// them.
    pub cuts: Vec<u64>,
    /// What lay before the last offset that was read when the database was last written; it may
    /// be above `settled`. None before the first checkpoint, and for a sensor.
    pub marker: Option<Marker>,
    /// What else tells what was read, after a power cut that took back what others had written: of a file
    /// markers of earlier checkpoints, rising ([`keep_earlier`]); of a journal, in which boot the marker's entry came.
    pub earlier: Vec<Marker>,
    /// Its file goes on behind its end, under another generation.
    pub goes_on: Option<GoesOn>,
}

/// Where a generation ends though its file goes on. What a power cut may have taken back of a file is written
/// anew under the same offsets: so what comes after a boot is under another generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoesOn {
    /// The offset: its last record ends there, and the other's first bytes follow.
    pub at: u64,
    /// The other, which may go on under yet another; none where a salvage lost it.
    pub under: Option<Box<OpenGeneration>>,
}

impl OpenGeneration {
    /// It, and those under which its file goes on, in their order.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |open| open.goes_on.as_ref()?.under.as_deref())
    }

    /// Of it and those under which its file goes on the last of which anything is settled, else itself: what is known of the
    /// file farthest on.
    pub fn farthest(&self) -> &Self {
        let begun = self.chain().skip(1).filter(|open| open.settled > 0);
        begun.last().unwrap_or(self)
    }

    /// Where reading begins: all before is settled, or to be skipped.
    pub fn read_from(&self) -> u64 {
        self.settled.max(self.skip_to.unwrap_or(0))
    }

    /// Up to where all of its file is settled, or skipped, whatever the generation.
    pub fn settled_to(&self) -> u64 {
        let is_over =
            |open: &Self| (open.goes_on.as_ref()).is_some_and(|on| open.read_from() >= on.at);
        let under_way = self.chain().find(|open| !is_over(open));
        under_way.map_or_else(|| self.read_from(), Self::read_from)
    }

    /// The same file's next generation, named `name`, from `at` on: what lies before is another's.
    #[must_use]
    pub fn successor(&self, name: Generation, at: u64) -> Self {
        Self {
            generation: name,
            settled: 0,
            // A journal's place is known by it even where that is 0.
            skip_to: (at > 0 || self.skip_to.is_some()).then_some(at),
            goes_on: None,
            ..self.clone()
        }
    }
}

/// A file that was closed. It may lie beside its log still, renamed or compressed: it is kept in mind, so that
/// it is not taken for one that came and went unseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedFile {
    /// Its stream.
    pub stream: StreamId,
    /// Who it is.
    pub file: FileIdentity,
    /// What lay before the last offset that was read; none where nothing was.
    pub marker: Option<Marker>,
    /// Whether it was read to its end. Otherwise it was cut, or was gone: nothing that lies there now is
    /// what is left of it, but whatever came after it is younger.
    pub is_whole: bool,
}

/// Closed files of one stream that are kept in mind: those that were changed last. The first of them that lies
/// beside the log ends the search for what is younger; the others are for when that one was deleted, or
/// compressed anew, or is older than its last change says.
pub const CLOSED_OF_STREAM_MAX: usize = 8;
/// Closed files that are kept in mind in all, some 250 bytes each on the disk and twice that in memory. Picked by eye:
/// logs that were deleted lately, where each day or each container has logs of its own.
pub const CLOSED_MAX: usize = 1000;

/// What the database knows of sources when they start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knowledge {
    /// The system was started anew since: a power cut may have taken back what had been written to files.
    pub rebooted: bool,
    /// Every open generation.
    pub open: Vec<OpenGeneration>,
    /// Files of generations that are closed, in no order; [`CLOSED_MAX`] and those that are not settled yet at most.
    pub closed: Vec<ClosedFile>,
}

/// Where generations are registered before their first record is sent. Each call returns when its
/// change is committed (it survives a power cut); where the disk refuses, it waits and tries again.
pub trait Registry: Send {
    /// Enters new generations, all in one transaction.
    ///
    /// # Errors
    /// The store has stopped: the caller stops too.
    fn register(&self, new: &[OpenGeneration]) -> Result<(), StoreStopped>;

    /// Enters what became known of files that are followed: renamed, or with a longer fingerprint.
    ///
    /// # Errors
    /// As [`Registry::register`].
    fn identify(&self, files: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped>;

    /// Enters a record boundary that the bytes alone would not give.
    ///
    /// # Errors
    /// As [`Registry::register`].
    fn cut(&self, generation: Generation, offset: u64) -> Result<(), StoreStopped>;

    /// As [`Registry::register`], but where the disk refuses it does not wait. As they are, these three
    /// are for a registry whose disk never refuses.
    ///
    /// # Errors
    /// As [`Registry::register`].
    fn try_register(&self, new: &[OpenGeneration]) -> Result<Entered, StoreStopped> {
        self.register(new).map(Ok)
    }

    /// As [`Registry::identify`], but where the disk refuses it does not wait.
    ///
    /// # Errors
    /// As [`Registry::register`].
    fn try_identify(&self, files: &[(Generation, FileIdentity)]) -> Result<Entered, StoreStopped> {
        self.identify(files).map(Ok)
    }

    /// As [`Registry::cut`], but where the disk refuses it does not wait.
    ///
    /// # Errors
    /// As [`Registry::register`].
    fn try_cut(&self, generation: Generation, offset: u64) -> Result<Entered, StoreStopped> {
        self.cut(generation, offset).map(Ok)
    }

    /// Takes note of what lies before an offset that was read, and of when the file had been changed
    /// last (see [`FileIdentity::since_ms`]). Returns at once: it is written down
    /// with the generation's next checkpoint, in the same transaction.
    fn mark(&self, generation: Generation, marker: Marker, since_ms: u64);

    /// As [`Registry::mark`], of a journal's entry; `boot`: what is kept beside its marker
    /// ([`OpenGeneration::earlier`]).
    fn mark_entry(&self, generation: Generation, marker: Marker, boot: Marker);

    /// Takes note that a file was read to its end, which is at the marker, and is closed now. Returns at once: it is
    /// written down with the checkpoint that closes it, in the same transaction. As it is, this is for a registry
    /// that keeps no closed files in mind.
    fn read_whole(&self, _generation: Generation, _file: &FileIdentity, _marker: Marker) {}
}

/// Whether something was entered.
pub type Entered = Result<(), Refused>;

/// The disk refuses, and why, in a few words: nothing was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// The store is gone, because the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub struct StoreStopped;
