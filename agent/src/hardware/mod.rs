//! On which hardware the agent runs, and whether its state was written on the same. Pure, but for
//! [`present`].
//!
//! Two devices that were made from one image hold the same state: the same files, followed under the same
//! generations up to the same offsets. What each writes from then on is its own; under one generation the
//! loader would take the second's for a re-send of the first's. So the state keeps *marks* of the hardware
//! that it was last opened on, and where they say that this is other hardware, the spool draws
//! generations anew (`spool/anew.rs`).
//!
//! A mark is of a *kind*, and is a hash: what names hardware is nobody's business, and comparing needs no
//! more. One kind that differs is enough: to draw anew where it was not needed costs a
//! repeat at most, and only after a stop that was not orderly; not to draw where it was loses lines.
//! What is missing on one side (read by another user, hidden from a container, a driver that is
//! not loaded yet) is not compared: it is no difference.

mod read;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

/// Marks of the kind [`Kind::Network`] that are kept; beyond it only those that are there now. Picked by eye:
/// more ports than a device has.
const NETWORK_MAX: usize = 16;

/// What of the hardware a mark names. The numbers stand in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Serial number of the board, from the firmware's device tree (Raspberry Pi and most ARM boards).
    Board = 1,
    /// Serial number of the chip, from its own fuses.
    Chip = 2,
    /// UUID of the machine, as its firmware (SMBIOS) or its hypervisor tells it.
    Product = 3,
    /// Serial number of the machine, by SMBIOS.
    ProductSerial = 4,
    /// Serial number of the main board, by SMBIOS.
    BoardSerial = 5,
    /// The register of an SD card or eMMC that holds its serial number (CID), of the one that the state lies on.
    Card = 6,
    /// Serial number of the NVMe or virtio disk that the state lies on.
    Disk = 7,
    /// Addresses of network ports that are built in: any of them that is known makes it the same.
    Network = 8,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Board,
        Self::Chip,
        Self::Product,
        Self::ProductSerial,
        Self::BoardSerial,
        Self::Card,
        Self::Disk,
        Self::Network,
    ];

    /// The kind of a number in the database; none of a later version's.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// What it is called in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Board => "the board's serial number",
            Self::Chip => "the chip's serial number",
            Self::Product => "the machine's UUID",
            Self::ProductSerial => "the machine's serial number",
            Self::BoardSerial => "the main board's serial number",
            Self::Card => "the card",
            Self::Disk => "the disk",
            Self::Network => "the network ports",
        }
    }
}

/// One thing that names the hardware, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Of what.
    pub kind: Kind,
    /// The first 64 bits of the SHA-256 of its kind and its text.
    pub sum: u64,
}

impl Mark {
    /// Of a text as the system gives it; none where there is nothing in it. Case and blanks around it make no difference.
    pub fn new(kind: Kind, text: &[u8]) -> Option<Self> {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
        let start = text.iter().position(|byte| !is_blank(byte))?;
        let end = text.iter().rposition(|byte| !is_blank(byte))? + 1;
        let mut sum = Sha256::new();
        sum.update(&[kind as u8]);
        sum.update(&text[start..end].to_ascii_lowercase());
        let [a, b, c, d, e, f, g, h, ..] = sum.finish();
        let sum = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Some(Self { kind, sum })
    }
}

/// All that is known of some hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeSet<Mark>);

impl FromIterator<Mark> for Marks {
    fn from_iter<T: IntoIterator<Item = Mark>>(marks: T) -> Self {
        Self(marks.into_iter().collect())
    }
}

impl Marks {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Mark> {
        self.0.iter().copied()
    }

    fn of(&self, kind: Kind) -> BTreeSet<Mark> {
        self.iter().filter(|mark| mark.kind == kind).collect()
    }

    /// What is to be kept of the same hardware, of which `present` is seen now: what is hidden today is
    /// not forgotten.
    pub fn with(&self, present: &Self) -> Self {
        let kept = Kind::ALL.into_iter().flat_map(|kind| {
            let (before, now) = (self.of(kind), present.of(kind));
            let both = &before | &now;
            let adds_up = kind == Kind::Network && both.len() <= NETWORK_MAX;
            match (now.is_empty(), adds_up) {
                (true, _) => before,
                (false, true) => both,
                (false, false) => now,
            }
        });
        Self(kept.collect())
    }
}

/// What marks say of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are of the same hardware.
    Same,
    /// They are not, as these kinds say.
    Other(Vec<Kind>),
    /// No kind is known on both sides.
    Unknown,
}

/// Compares what was stored with what is there now.
pub fn compare(stored: &Marks, present: &Marks) -> Verdict {
    let known = Kind::ALL.into_iter().filter_map(|kind| {
        let (stored, present) = (stored.of(kind), present.of(kind));
        let is_comparable = !stored.is_empty() && !present.is_empty();
        is_comparable.then(|| (kind, stored.is_disjoint(&present)))
    });
    let known: Vec<_> = known.collect();
    let others: Vec<_> = known.iter().filter(|(_, differs)| *differs).collect();
    match (known.is_empty(), others.is_empty()) {
        (true, _) => Verdict::Unknown,
        (false, true) => Verdict::Same,
        (false, false) => Verdict::Other(others.into_iter().map(|(kind, _)| *kind).collect()),
    }
}

/// Marks of the hardware that the agent runs on, with its state in `state_dir`. What cannot be read is
/// left out.
pub fn present(state_dir: &Path) -> Marks {
    read::marks(&root(), state_dir)
}

/// Where the kernel tells of hardware, for a test that runs two devices on one machine. A released binary
/// takes no order of the kind.
#[cfg(feature = "crash-points")]
fn root() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's order to this very process"
    )]
    let root = std::env::var("HEADWATER_HARDWARE_ROOT");
    root.map_or_else(|_| PathBuf::from("/"), PathBuf::from)
}

/// Where the kernel tells of hardware.
#[cfg(not(feature = "crash-points"))]
fn root() -> PathBuf {
    PathBuf::from("/")
}

#[cfg(test)]
mod tests;
