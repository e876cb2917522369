//! From ledgers to lines: what of each generation, or of each device, is to be printed, in sorted runs,
//! and what all of them come to. It sees one generation at a time.

use std::cmp::Ordering;
use std::io;

use headwater_record::Generation;
use headwater_record::ledger::GenerationState;
use headwater_record::ledger::scan::Part;
use serde::{Deserialize, Serialize};

use super::spool::{Run, Sorted, Spool, Writing};
use super::{By, Choice};
use crate::status::devices::Device;

/// One generation of one stream.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) stream: Box<str>,
    pub(super) generation: Generation,
    pub(super) partition: i32,
    /// Up to where what came before a stretch is unknown.
    pub(super) before: Option<u64>,
    pub(super) of: GenerationState,
}

impl Sorted for Line {
    fn order(&self, other: &Self) -> Ordering {
        let key = |line: &Self| (line.generation, line.partition);
        let streams = self.stream.cmp(&other.stream);
        streams.then_with(|| key(self).cmp(&key(other)))
    }
}

impl Sorted for Device {
    /// As their streams are sorted: these begin with the name and a slash.
    fn order(&self, other: &Self) -> Ordering {
        let (this, that) = (self.device.as_bytes(), other.device.as_bytes());
        this.iter().chain(b"/").cmp(that.iter().chain(b"/"))
    }
}

/// What all that was chosen comes to.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) partitions: usize,
    pub(super) generations: u64,
    pub(super) records: u64,
    pub(super) duplicates: u64,
    pub(super) retired_generations: u64,
    pub(super) retired_records: u64,
    pub(super) unexplained_gaps: usize,
    /// Records and notices that the ledgers had no room for.
    pub(super) unaccounted: u64,
    /// Characters of the longest name that is printed.
    pub(super) width: usize,
}

/// All that was read so far. It goes to the thread that reads a ledger, and back.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) choice: Choice,
    pub(super) totals: Totals,
    pub(super) spool: Spool,
    pub(super) runs: Vec<Run>,
    /// Whether it is the output of a stretch.
    pub(super) is_stretch: bool,
}

impl Collected {
    /// Takes in the ledger of a partition: `read` hands over its parts. None where what they are to wait
    /// in fails, which then is the error.
    pub(super) fn add<E>(
        &mut self,
        partition: i32,
        read: impl FnOnce(&mut dyn FnMut(Part<'_>) -> Result<(), String>) -> Result<(), E>,
    ) -> io::Result<Result<(), E>> {
        self.totals.partitions += 1;
        let mut ledger = OfLedger {
            partition,
            choice: &self.choice,
            totals: &mut self.totals,
            is_stretch: self.is_stretch,
            run: self.spool.begin()?,
            device: Device::default(),
        };
        let mut failed = Ok(());
        let done = read(&mut |part| {
            failed = ledger.take(part);
            failed.as_ref().map_err(ToString::to_string).copied()
        });
        failed?;
        ledger.end_device()?;
        let run = ledger.run.finish()?;
        self.runs.push(run);
        Ok(done)
    }
}

/// A ledger that is being read.
struct OfLedger<'a> {
    partition: i32,
    choice: &'a Choice,
    totals: &'a mut Totals,
    is_stretch: bool,
    run: Writing<'a>,
    /// With [`By::Device`]: the device whose streams come. They lie behind each other.
    device: Device,
}

impl OfLedger<'_> {
    fn take(&mut self, part: Part<'_>) -> io::Result<()> {
        match part {
            Part::Generation {
                stream,
                generation,
                state,
            } if self.choice.takes(stream) => self.generation(stream, generation, state),
            Part::Stream {
                stream,
                retired,
                retired_records,
            } if self.choice.takes(stream) => {
                self.totals.retired_generations += retired;
                self.totals.retired_records += retired_records;
                if self.choice.by == By::Device {
                    self.begin_device(stream)?;
                    self.device.add_stream(retired_records);
                }
                Ok(())
            }
            // Of which devices, is not known any more.
            Part::End {
                forgotten,
                unaccounted,
            } => {
                self.totals.unaccounted += unaccounted;
                if self.choice.device.is_none() {
                    self.totals.retired_generations += forgotten.generations;
                    self.totals.retired_records += forgotten.records;
                }
                Ok(())
            }
            Part::Generation { .. } | Part::Stream { .. } => Ok(()),
        }
    }

    fn generation(
        &mut self,
        stream: &str,
        generation: Generation,
        mut state: GenerationState,
    ) -> io::Result<()> {
        let before = match self.is_stretch {
            true => set_before(&mut state),
            false => None,
        };
        self.totals.generations += 1;
        self.totals.records += state.records;
        self.totals.duplicates += state.duplicates;
        self.totals.unexplained_gaps += state.gaps.len();
        if self.choice.by == By::Device {
            self.begin_device(stream)?;
            self.device.add_generation(&state);
            return Ok(());
        }
        if self.choice.gaps && state.gaps.is_empty() {
            return Ok(());
        }
        self.totals.width = self.totals.width.max(stream.chars().count());
        self.run.put(&Line {
            stream: stream.into(),
            generation,
            partition: self.partition,
            before,
            of: state,
        })
    }

    fn begin_device(&mut self, stream: &str) -> io::Result<()> {
        let name = device_of(stream);
        if name != self.device.device {
            self.end_device()?;
            self.device = Device::named(name);
        }
        Ok(())
    }

    fn end_device(&mut self) -> io::Result<()> {
        let device = std::mem::take(&mut self.device);
        if device.streams == 0 || (self.choice.gaps && device.gaps == 0) {
            return Ok(());
        }
        self.totals.width = self.totals.width.max(device.device.chars().count());
        self.run.put(&device)
    }
}

/// The device that a stream is of.
pub(super) fn device_of(stream: &str) -> &str {
    stream.split('/').next().unwrap_or_default()
}

/// What a generation lacks from its beginning on came before the stretch, or never: the stretch's
/// ledger cannot know.
fn set_before(state: &mut GenerationState) -> Option<u64> {
    let first = state.gaps.iter().next().filter(|gap| gap.start() == 0)?;
    state.gaps.remove(first);
    Some(first.end())
}
