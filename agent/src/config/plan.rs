//! The configuration as it is meant: every value checked, every default in place, every glob
//! compiled. Pure: the same file on the same [`Host`] gives the same plan or the same problems, and
//! all of them at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use glob::Pattern;
use headwater_msk::{Bytes, CredentialSettings, Kafka, Period};
use headwater_record::{DeviceId, SourceId};

use super::file::{self, ConfigFile, LastLine, StartAt};
use super::memory::{self, Share};
use super::problems::{Check, Problem, to_usize};
use super::{Host, Listen, defaults, process};
use crate::budget::Shares;
use crate::delivery::uplink::UplinkSettings;
use crate::frame::frames::Framing;
use crate::frame::multiline::Multiline;
use crate::process::ProcessPlan;
use crate::produce::key::Key;
use crate::sample::policy::Policy;
use crate::sample::read::Reader;
use crate::sample::reading::Conversion;
use crate::sample::schedule::Beat;
use crate::spool::disk::Floors;
use crate::spool::sealing::KeyFiles;
use crate::spool::{Lane, WhenFull};

/// What the agent runs on.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Identity of the device.
    pub device: DeviceId,
    /// Folder of the database, absolute.
    pub state_dir: PathBuf,
    /// Where the lengths that files had early in the boot are written down, absolute.
    pub boot_sizes: PathBuf,
    /// How to reach the cluster.
    pub kafka: Kafka,
    /// Where AWS credentials come from.
    pub credentials: CredentialSettings,
    /// The key of each record.
    pub key: Key,
    /// Bound on all records in RAM, bytes.
    pub window_bytes: usize,
    /// When the agent is connected.
    pub uplink: UplinkSettings,
    /// Most bytes written to flash in a day.
    pub flash_bytes_per_day: Option<u64>,
    /// What the process may take in all, bytes; `window_bytes` is its share of that.
    pub memory_max: Option<u64>,
    /// When, and how much, goes to the database.
    pub spool: SpoolPlan,
    /// What it is sealed with.
    pub spool_keys: KeyFiles,
    /// How often settled offsets are written down.
    pub checkpoint: CheckpointPlan,
    /// Time for the broker's last acknowledgements at an orderly end.
    pub shutdown_flush: Duration,
    /// Where it can be asked how it goes.
    pub admin_listen: Listen,
    /// Followed files.
    pub files: Vec<FileSource>,
    /// The systemd journal.
    pub journals: Vec<JournalSource>,
    /// Read sensors.
    pub sensors: Vec<SensorSource>,
}

/// When, and how much, goes to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolPlan {
    /// Age at which an unacknowledged batch is committed; zero commits before sending.
    pub after: Duration,
    /// Bound on the spooled batches, bytes.
    pub max_bytes: u64,
    /// What is kept free of the file system.
    pub floors: Floors,
    /// What happens to a lane that has no room, by [`Lane::index`].
    pub when_full: [WhenFull; Lane::COUNT],
}

/// How often settled offsets are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// At this age.
    pub every: Duration,
    /// Or after this many settled bytes.
    pub bytes: u64,
}

/// One `[[file]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSource {
    /// Its name.
    pub id: SourceId,
    /// Which files; absolute.
    pub paths: Vec<Pattern>,
    /// Which of them not.
    pub exclude: Vec<Pattern>,
    /// Which batches go before it, and which after.
    pub lane: Lane,
    /// Where a file that is first seen at the agent's start is read from.
    pub start_at: StartAt,
    /// How they are framed.
    pub framing: Framing,
    /// Silence after which an event of several lines is over.
    pub multiline_timeout: Duration,
    /// What becomes of a last line without a newline.
    pub last_line: LastLine,
    /// Silence after which it does, if it does not wait.
    pub last_line_after: Duration,
    /// How often the globs are matched without a hint.
    pub rescan: Duration,
    /// Silence after which a rotated file is closed.
    pub close_after: Duration,
    /// What is done with its lines.
    pub process: ProcessPlan,
}

/// One `[[journal]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalSource {
    /// Its name.
    pub id: SourceId,
    /// Which units; all where none is named.
    pub units: Vec<String>,
    /// Which batches go before it, and which after.
    pub lane: Lane,
    /// Which priorities, as journalctl takes them.
    pub priority: Option<String>,
    /// From when on, at the first start, as journalctl takes it.
    pub since: Option<String>,
    /// Where to begin at the first start, without `since`.
    pub start_at: StartAt,
    /// Folder of the journal's files, if not the system's; absolute.
    pub directory: Option<PathBuf>,
    /// Fields of the journal that are passed on besides.
    pub fields: Vec<String>,
    /// What is done with its entries.
    pub process: ProcessPlan,
}

/// One `[[sensor]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorSource {
    /// Its name.
    pub id: SourceId,
    /// Which files; absolute.
    pub paths: Vec<Pattern>,
    /// Which batches go before it, and which after.
    pub lane: Lane,
    /// How they are read.
    pub reader: Reader,
    /// When.
    pub beat: Beat,
    /// What is made of a number.
    pub conversion: Conversion,
    /// Unit of the result, if not the sensor's own.
    pub unit: Option<String>,
    /// Which samples are told.
    pub policy: Policy,
    /// Age at which what a file holds is stale.
    pub stale_after: Option<Duration>,
}

impl Plan {
    /// Checks a configuration and fills in what it leaves out.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn new(config: ConfigFile, host: &Host) -> Result<Self, Vec<Problem>> {
        let mut check = Check::default();
        let device = check.device(&config, host);
        let state_dir = check.absolute("state_dir", config.state_dir, defaults::STATE_DIR);
        let boot_sizes = check.absolute("boot_sizes", config.boot_sizes, defaults::BOOT_SIZES);
        for problem in config.kafka.problems(&config.credentials) {
            // Its text begins with the key: "kafka.topic: …", "kafka.brokers is empty: …".
            let text = problem.to_string();
            let (key, message) = text.split_once([':', ' ']).unwrap_or(("kafka", &text));
            check.problem(key, message.trim_start());
        }
        let key = check.key(config.produce.key.as_deref());
        let journals = config.journals.len();
        let window_bytes = check.window(config.window.bytes, config.memory.max, journals);
        let uplink = check.uplink(&config.uplink, device.as_ref());
        let spool_bytes = check.at_least(
            "spool.max_bytes",
            config.spool.max_bytes.unwrap_or(defaults::SPOOL_MAX_BYTES),
            defaults::SPOOL_MAX_BYTES_LEAST,
        );
        let spool_keys = check.spool_keys(&config.spool);
        let checkpoint_every = check.interval(
            "checkpoint.every",
            config.checkpoint.every,
            defaults::CHECKPOINT_EVERY,
        );
        let admin_listen = check.listen(config.admin.listen, &state_dir);
        let sources = check.sources(config.files, config.journals, config.sensors);
        match (device, sources, check.problems) {
            (Some(device), Some((files, journals, sensors)), problems) if problems.is_empty() => {
                Ok(Self {
                    device,
                    state_dir,
                    boot_sizes,
                    kafka: config.kafka,
                    credentials: config.credentials,
                    key,
                    window_bytes: to_usize(window_bytes),
                    uplink,
                    flash_bytes_per_day: config.flash.bytes_per_day.map(|bytes| bytes.0),
                    memory_max: config.memory.max.map(|bytes| bytes.0),
                    spool: SpoolPlan {
                        after: config.spool.after.unwrap_or(defaults::SPOOL_AFTER).0,
                        max_bytes: spool_bytes.0,
                        floors: floors(&config.spool),
                        when_full: when_full(&config.spool.when_full),
                    },
                    spool_keys,
                    checkpoint: CheckpointPlan {
                        every: checkpoint_every,
                        bytes: (config
                            .checkpoint
                            .bytes
                            .unwrap_or(defaults::CHECKPOINT_BYTES))
                        .0,
                    },
                    shutdown_flush: config.shutdown.flush.unwrap_or(defaults::SHUTDOWN_FLUSH).0,
                    admin_listen,
                    files,
                    journals,
                    sensors,
                })
            }
            (_, _, problems) => Err(problems),
        }
    }

    /// Where a running agent can be asked, whatever else is wrong with the configuration: it may run on
    /// the one before.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn listen_of(config: &ConfigFile) -> Result<Listen, Vec<Problem>> {
        let mut check = Check::default();
        let state_dir = check.absolute("state_dir", config.state_dir.clone(), defaults::STATE_DIR);
        let listen = check.listen(config.admin.listen.clone(), &state_dir);
        match check.problems {
            problems if problems.is_empty() => Ok(listen),
            problems => Err(problems),
        }
    }

    /// The lane of each source.
    pub fn lanes(&self) -> BTreeMap<SourceId, Lane> {
        let files = self.files.iter().map(|file| (file.id.clone(), file.lane));
        let sensors = self.sensors.iter();
        let sensors = sensors.map(|sensor| (sensor.id.clone(), sensor.lane));
        let journals = self.journals.iter();
        let journals = journals.map(|journal| (journal.id.clone(), journal.lane));
        files.chain(sensors).chain(journals).collect()
    }

    /// Who has a share of the window.
    pub fn shares(&self) -> Shares {
        let mut shares = Shares::default();
        let files = self.files.iter().map(|file| file.lane);
        let journals = self.journals.iter().map(|journal| journal.lane);
        for lane in files.chain(journals) {
            shares.waiting[lane.index()] = true;
        }
        for sensor in &self.sensors {
            shares.sampling[sensor.lane.index()] = true;
        }
        shares
    }

    /// What each part takes of memory at most, the window last.
    pub fn memory(&self) -> Vec<Share> {
        let mut shares = memory::shares(self.journals.len());
        shares.push(Share {
            name: "window",
            bytes: Bytes(self.window_bytes as u64),
        });
        shares
    }

    /// The plan written back as a configuration file, with nothing left out.
    pub fn effective(&self) -> ConfigFile {
        ConfigFile {
            device: Some(self.device.as_str().to_owned()),
            state_dir: Some(self.state_dir.to_string_lossy().into_owned()),
            boot_sizes: Some(self.boot_sizes.to_string_lossy().into_owned()),
            kafka: self.kafka.clone(),
            credentials: self.credentials.clone(),
            produce: file::Produce {
                key: Some(self.key.to_string()),
            },
            window: file::Window {
                bytes: Some(Bytes(self.window_bytes as u64)),
            },
            spool: file::Spool {
                after: Some(Period(self.spool.after)),
                max_bytes: Some(Bytes(self.spool.max_bytes)),
                free_bytes_min: Some(Bytes(self.spool.floors.bytes)),
                free_inodes_min: Some(self.spool.floors.inodes),
                key: self.spool_keys.key.clone(),
                old_keys: self.spool_keys.old_keys.clone(),
                when_full: file::LanesWhenFull {
                    high: Some(self.spool.when_full[Lane::High.index()]),
                    normal: Some(self.spool.when_full[Lane::Normal.index()]),
                    low: Some(self.spool.when_full[Lane::Low.index()]),
                },
            },
            checkpoint: file::Checkpoint {
                every: Some(Period(self.checkpoint.every)),
                bytes: Some(Bytes(self.checkpoint.bytes)),
            },
            uplink: file::Uplink {
                session: Some(self.uplink.session),
                every: Some(Period(self.uplink.every)),
                hours: self.uplink.hours.map(|hours| hours.to_string()),
                bytes_per_hour: self.uplink.budgets.hour.map(Bytes),
                bytes_per_day: self.uplink.budgets.day.map(Bytes),
                bytes_per_month: self.uplink.budgets.month.map(Bytes),
            },
            flash: file::Flash {
                bytes_per_day: self.flash_bytes_per_day.map(Bytes),
            },
            memory: file::Memory {
                max: self.memory_max.map(Bytes),
            },
            shutdown: file::Shutdown {
                flush: Some(Period(self.shutdown_flush)),
            },
            admin: file::Admin {
                listen: Some(self.admin_listen.to_string()),
            },
            files: self.files.iter().map(FileSource::effective).collect(),
            journals: self.journals.iter().map(JournalSource::effective).collect(),
            sensors: self.sensors.iter().map(SensorSource::effective).collect(),
        }
    }
}

impl FileSource {
    fn effective(&self) -> file::File {
        file::File {
            id: self.id.as_str().to_owned(),
            paths: as_written(&self.paths),
            exclude: as_written(&self.exclude),
            lane: Some(self.lane),
            start_at: Some(self.start_at),
            max_line: Some(Bytes(self.framing.max_line as u64)),
            rescan: Some(Period(self.rescan)),
            close_after: Some(Period(self.close_after)),
            encoding: Some(self.framing.encoding.to_string()),
            last_line: Some(self.last_line),
            last_line_after: Some(Period(self.last_line_after)),
            multiline: self.effective_multiline(),
            value: Some(self.process.form),
            repeats: process::written_repeats(&self.process),
            rate_limit: process::written_limit(&self.process),
            process: self.process.steps.written().to_vec(),
        }
    }

    fn effective_multiline(&self) -> Option<file::Multiline> {
        let mut written = file::Multiline {
            timeout: Some(Period(self.multiline_timeout)),
            ..file::Multiline::default()
        };
        match self.framing.multiline.as_ref()? {
            Multiline::Preset(preset) => written.preset = Some(*preset),
            Multiline::Start(pattern) => written.start = Some(pattern.as_str().to_owned()),
            Multiline::Continue(pattern) => written.go_on = Some(pattern.as_str().to_owned()),
            Multiline::End(pattern) => written.end = Some(pattern.as_str().to_owned()),
        }
        Some(written)
    }
}

fn floors(spool: &file::Spool) -> Floors {
    Floors {
        bytes: (spool.free_bytes_min)
            .unwrap_or(defaults::SPOOL_FREE_BYTES_MIN)
            .0,
        inodes: (spool.free_inodes_min).unwrap_or(defaults::SPOOL_FREE_INODES_MIN),
    }
}

fn when_full(lanes: &file::LanesWhenFull) -> [WhenFull; Lane::COUNT] {
    let mut when_full = [WhenFull::default(); Lane::COUNT];
    when_full[Lane::High.index()] = lanes.high.unwrap_or(defaults::WHEN_FULL_HIGH);
    when_full[Lane::Normal.index()] = lanes.normal.unwrap_or(defaults::WHEN_FULL_NORMAL);
    when_full[Lane::Low.index()] = lanes.low.unwrap_or(defaults::WHEN_FULL_LOW);
    when_full
}

pub(super) fn as_written(patterns: &[Pattern]) -> Vec<String> {
    let text = |pattern: &Pattern| pattern.as_str().to_owned();
    patterns.iter().map(text).collect()
}

#[cfg(test)]
mod tests;
