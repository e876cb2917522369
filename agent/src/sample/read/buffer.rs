//! The buffer of an IIO device: scans of all enabled channels, one behind the other, read from its
//! character device.
//!
//! ```text
//! scan_elements/in_voltage0_en    1            in_voltage0_type   le:u12/16>>4
//! scan_elements/in_voltage0_index 0            in_timestamp_type  le:s64/64>>0
//!
//! /dev/iio:device0   [ v0 ][ v1 ][ padding ][ timestamp ]  [ v0 ][ v1 ] …
//! ```
//!
//! Each element lies at a multiple of its own size, and a scan is as long as a multiple of its
//! largest. Source: Linux, `Documentation/driver-api/iio/buffers.rst` and
//! `Documentation/iio/iio_devbuf.rst`. Who configures the buffer and enables it (a unit file, say)
//! is not headwater; nothing is written.
//!
//! When a scan was taken: [`times`].

mod times;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::times::{Before, Stamps, moments};
use super::iio::{Scale, channel};
use super::{ReadError, attribute, number, open};
use crate::clock::{KernelClock, Moment};

/// Most scans that are taken at a time: what is more is taken next time, and what the kernel's own
/// buffer does not hold is gone, as its length says.
const SCANS_MAX: usize = 1024;
/// After so many readings, one behind the other, of which each left something, that is said.
const FULL_SAID: u32 = 3;
/// Longest scan, bytes.
const SCAN_BYTES_MAX: usize = 1024;
/// The element that says when a scan was taken.
const TIMESTAMP: &str = "timestamp";

/// How one element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    big_endian: bool,
    signed: bool,
    /// Bits that count.
    bits: u32,
    /// Bytes that it takes.
    bytes: usize,
    shift: u32,
}

impl Layout {
    /// Reads `[be|le]:[s|u]bits/storagebits>>shift`; repeated elements (`X4`) are not read.
    pub fn parse(text: &str) -> Option<Self> {
        let (endian, rest) = text.trim().split_once(':')?;
        let signed = match rest.get(..1)? {
            "s" => true,
            "u" => false,
            _ => return None,
        };
        let (bits, rest) = rest[1..].split_once('/')?;
        let (storage, shift) = rest.split_once(">>")?;
        let (bits, storage, shift): (u32, u32, u32) = (
            bits.parse().ok()?,
            storage.parse().ok()?,
            shift.parse().ok()?,
        );
        let fits =
            matches!(storage, 8 | 16 | 32 | 64) && bits >= 1 && bits.checked_add(shift)? <= storage;
        let big_endian = match endian {
            "be" => true,
            "le" => false,
            _ => return None,
        };
        fits.then_some(Self {
            big_endian,
            signed,
            bits,
            bytes: (storage / 8) as usize,
            shift,
        })
    }

    /// The bits that count, the highest of them at the top of the word.
    fn aligned(self, bytes: &[u8]) -> u64 {
        let add = |word: u64, byte: &u8| (word << 8) | u64::from(*byte);
        let word = match self.big_endian {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        };
        (word >> self.shift) << (64 - self.bits)
    }

    /// The raw number in its bytes; there are [`Layout::bytes`] of them.
    fn value(self, bytes: &[u8]) -> f64 {
        let (aligned, unused) = (self.aligned(bytes), 64 - self.bits);
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits of a 64-bit counter are enough"
        )]
        match self.signed {
            true => (aligned.cast_signed() >> unused) as f64,
            false => (aligned >> unused) as f64,
        }
    }
}

/// Where each channel lies in a scan, and how long a scan is: of layouts in the order of their index.
pub fn arrange(layouts: &[Layout]) -> (Vec<usize>, usize) {
    let (mut at, mut largest, mut places) = (0_usize, 1, Vec::new());
    for layout in layouts {
        at = at.next_multiple_of(layout.bytes);
        places.push(at);
        at += layout.bytes;
        largest = largest.max(layout.bytes);
    }
    (places, at.next_multiple_of(largest))
}

/// The buffers of one source's devices.
#[derive(Debug, Default)]
pub struct Buffers {
    devices: HashMap<PathBuf, Device>,
}

/// What a reading of buffers goes by.
pub struct Clocks<'a> {
    /// Now.
    pub now: Moment,
    /// What a clock of the kernel shows now, nanoseconds.
    pub kernel_ns: &'a dyn Fn(KernelClock) -> i64,
    /// How often buffers are read: what the first reading finds was collected meanwhile, as far as nothing says
    /// otherwise.
    pub interval: Duration,
}

/// One device: its open character device, and what was read and not taken.
#[derive(Debug)]
struct Device {
    file: File,
    /// The end of a scan that was cut off.
    rest: Vec<u8>,
    values: HashMap<String, Vec<f64>>,
    /// When the scans were taken that the values are of.
    moments: Vec<Moment>,
    before: Before,
    /// Readings, one behind the other, that left something for the next.
    full: u32,
}

impl fmt::Debug for Clocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clocks").finish_non_exhaustive()
    }
}

impl Buffers {
    /// Reads what every known device's buffer holds; `paths`: the enabled elements, `in_*_en`.
    pub fn fill(&mut self, dev: &Path, paths: &[&Path], clocks: &Clocks<'_>) {
        let mut folders: Vec<_> = paths
            .iter()
            .filter_map(|path| path.parent()?.parent())
            .collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            let filled = self
                .device(dev, folder)
                .and_then(|device| device.fill(folder, clocks));
            if let Err(error) = filled {
                // It is opened anew; the element's reading says that there is none.
                tracing::debug!("{}: {error}", folder.display());
                self.devices.remove(folder);
            }
        }
    }

    /// The values of one element since they were taken last, and when they were measured.
    ///
    /// # Errors
    /// The device gave none.
    pub fn take(&mut self, path: &Path) -> Result<Vec<(f64, Moment)>, ReadError> {
        let folder = path
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("/"));
        let device = self.devices.get_mut(folder);
        let values = device.and_then(|device| {
            let values = device.values.remove(&channel(path))?;
            let moments = device.moments.iter().copied();
            Some(values.into_iter().zip(moments).collect())
        });
        values.ok_or_else(|| {
            ReadError::NotThere(
                "its buffer gave nothing: is it enabled (buffer/enable), and triggered?".into(),
            )
        })
    }

    fn device(&mut self, dev: &Path, folder: &Path) -> Result<&mut Device, ReadError> {
        if !self.devices.contains_key(folder) {
            let path = dev.join(folder.file_name().unwrap_or_default());
            let device = Device {
                file: open(&path).map_err(ReadError::Unreadable)?,
                rest: Vec::new(),
                values: HashMap::new(),
                moments: Vec::new(),
                before: Before::default(),
                full: 0,
            };
            self.devices.insert(folder.to_owned(), device);
        }
        self.devices
            .get_mut(folder)
            .ok_or_else(|| ReadError::NotThere("it was just put there".into()))
    }
}

impl Device {
    fn fill(&mut self, folder: &Path, clocks: &Clocks<'_>) -> Result<(), ReadError> {
        self.values.clear();
        self.moments.clear();
        let elements = elements(&folder.join("scan_elements"))?;
        let layouts: Vec<_> = elements.iter().map(|(_, layout)| *layout).collect();
        let (places, scan_bytes) = arrange(&layouts);
        if elements.is_empty() || scan_bytes > SCAN_BYTES_MAX {
            return Err(ReadError::NotThere(
                "no element is enabled that can be read".into(),
            ));
        }
        let rest = std::mem::take(&mut self.rest);
        let bytes =
            read_scans(&mut &self.file, scan_bytes, &rest).map_err(ReadError::Unreadable)?;
        let scans = bytes.chunks_exact(scan_bytes);
        self.rest = scans.remainder().to_vec();
        let count = scans.len();
        self.say_full(folder, count);
        let mut stamps = None;
        for ((name, layout), at) in elements.iter().zip(places) {
            let scale = Scale::read(folder, name)?;
            let place = at..at + layout.bytes;
            let value = |scan: &[u8]| scale.value(layout.value(&scan[place.clone()]));
            let values: Vec<f64> = scans.clone().map(value).collect();
            if !values.is_empty() {
                self.values.insert(name.clone(), values);
            }
            // As the kernel stores it: le:s64/64>>0, or be.
            if name == TIMESTAMP && layout.signed && layout.bits == 64 {
                let stamp = |scan: &[u8]| layout.aligned(&scan[place.clone()]).cast_signed();
                stamps = self.stamps(folder, scans.clone().map(stamp).collect(), clocks);
            }
        }
        let (before, first, now) = (self.before, clocks.interval, clocks.now);
        self.moments = moments(count, stamps.as_ref(), before, first, now);
        self.before.read_at = Some(now.at);
        if let Some(last) = self.moments.last() {
            self.before.scan_at = last.at;
        }
        Ok(())
    }

    fn stamps(&self, folder: &Path, of: Vec<i64>, clocks: &Clocks<'_>) -> Option<Stamps> {
        let path = folder.join("current_timestamp_clock");
        // One that is there and cannot be read is not known.
        let name = path.exists().then(|| attribute(&path).unwrap_or_default());
        let now = (clocks.kernel_ns)(times::clock(name.as_deref())?);
        Some(Stamps { of, now })
    }

    /// What does not fit into one reading waits in the kernel, as far as that has room: once, after a
    /// stop, that is nothing; time and again it is less than what comes.
    fn say_full(&mut self, folder: &Path, count: usize) {
        self.full = match count >= SCANS_MAX {
            true => self.full.saturating_add(1),
            false => 0,
        };
        if self.full == FULL_SAID {
            tracing::warn!(
                "{}: its buffer holds {SCANS_MAX} scans or more at each interval, and what the kernel has no \
                 room for is gone: take a shorter interval, or a lower sampling frequency",
                folder.display()
            );
        }
    }
}

/// What a buffer holds, behind the end of a scan that was cut off, up to [`SCANS_MAX`] scans. Each read
/// asks for whole scans: the kernel's queue refuses to give less than one (`iio_read_kfifo`), and
/// other buffers may give the beginning of one.
fn read_scans(from: &mut impl Read, scan_bytes: usize, rest: &[u8]) -> io::Result<Vec<u8>> {
    let (mut bytes, mut len) = (rest.to_vec(), rest.len());
    bytes.resize(len + SCANS_MAX * scan_bytes, 0);
    loop {
        let room = (bytes.len() - len) / scan_bytes * scan_bytes;
        if room == 0 {
            break;
        }
        match from.read(&mut bytes[len..len + room]) {
            Ok(0) => break,
            Ok(read) => len += read,
            // Nothing more for now: what was read before that is in `bytes`.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The enabled elements, in the order of their index.
fn elements(folder: &Path) -> Result<Vec<(String, Layout)>, ReadError> {
    let mut elements = Vec::new();
    for entry in std::fs::read_dir(folder)
        .map_err(ReadError::Unreadable)?
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with("in_") && name.ends_with("_en"))
            || number::parse(&attribute(&path)?)? == 0.0
        {
            continue;
        }
        let channel = channel(&path);
        let index = number::parse(&attribute(&folder.join(format!("in_{channel}_index")))?)?;
        // Channels of one type may share the file that says how they are stored.
        let shared = channel.trim_end_matches(|c: char| c.is_ascii_digit());
        let layout = [channel.as_str(), shared].iter().find_map(|of| {
            let bytes = attribute(&folder.join(format!("in_{of}_type"))).ok()?;
            Layout::parse(&String::from_utf8_lossy(&bytes))
        });
        let layout = layout.ok_or_else(|| {
            ReadError::NotThere(format!("how in_{channel} is stored cannot be read"))
        })?;
        elements.push((index, channel, layout));
    }
    elements.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    Ok(elements
        .into_iter()
        .map(|(_, channel, layout)| (channel, layout))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel's queue gives them: whole scans, and none where less than one is asked for.
    struct Queue {
        scan_bytes: usize,
        held: Vec<u8>,
    }

    impl Read for Queue {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            const EINVAL: i32 = 22;
            if into.len() < self.scan_bytes {
                return Err(io::Error::from_raw_os_error(EINVAL));
            }
            if self.held.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let whole = into.len() / self.scan_bytes * self.scan_bytes;
            let given: Vec<u8> = self.held.drain(..whole.min(self.held.len())).collect();
            into[..given.len()].copy_from_slice(&given);
            Ok(given.len())
        }
    }

    #[test]
    fn whole_scans_are_asked_for_and_never_more_than_a_bound() {
        for scan_bytes in [2, 40, 104, SCAN_BYTES_MAX] {
            let more = (SCANS_MAX + 3) * scan_bytes;
            let held: Vec<u8> = (0..more).map(|n| (n % 251) as u8).collect();
            let mut queue = Queue {
                scan_bytes,
                held: held.clone(),
            };
            let first = read_scans(&mut queue, scan_bytes, &[]).unwrap();
            assert_eq!(first.len(), SCANS_MAX * scan_bytes);
            let rest = read_scans(&mut queue, scan_bytes, &[]).unwrap();
            assert_eq!([first, rest].concat(), held);
            assert_eq!(read_scans(&mut queue, scan_bytes, &[7]).unwrap(), [7]);
        }
    }
}
