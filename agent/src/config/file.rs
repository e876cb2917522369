//! The configuration exactly as its TOML is written. What is optional there is an `Option` here:
//! defaults stand in [`super::defaults`], and meaning in [`super::plan`].

use headwater_msk::security::secret_file::SecretFile;
use headwater_msk::{Bytes, CredentialSettings, Kafka, Period};
use serde::{Deserialize, Serialize};

use crate::delivery::uplink::Session;
use crate::spool::WhenFull;

/// A table of settings that may each be left out; one that is, is not written either.
macro_rules! table {
    ($(#[$about:meta])* $table:ident {
        $($(#[$field_about:meta])* $field:ident: $kind:ty,)+
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $table {
            $(
                $(#[$field_about])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$kind>,
            )+
        }
    };
}

mod sources;

pub use self::sources::{
    File, Journal, LastLine, Multiline, RateLimit, Repeats, Rollup, Sensor, StartAt,
};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Identity of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Folder of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// Where the lengths that files had early in the boot are written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_sizes: Option<String>,
    /// How to reach the cluster.
    pub kafka: Kafka,
    /// Where AWS credentials come from.
    #[serde(default, skip_serializing_if = "CredentialSettings::is_default")]
    pub credentials: CredentialSettings,
    /// What records look like in Kafka.
    #[serde(default)]
    pub produce: Produce,
    /// The RAM between a source and its settlement.
    #[serde(default)]
    pub window: Window,
    /// When, and how much, goes to the database.
    #[serde(default)]
    pub spool: Spool,
    /// How often settled offsets are written down.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// When the agent is connected.
    #[serde(default)]
    pub uplink: Uplink,
    /// What may be written to flash.
    #[serde(default)]
    pub flash: Flash,
    /// What may be taken of memory.
    #[serde(default)]
    pub memory: Memory,
    /// How an orderly end goes.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// Who may ask how it goes.
    #[serde(default)]
    pub admin: Admin,
    /// Followed files.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// The systemd journal.
    #[serde(default, rename = "journal", skip_serializing_if = "Vec::is_empty")]
    pub journals: Vec<Journal>,
    /// Read sensors.
    #[serde(default, rename = "sensor", skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<Sensor>,
}

table! {
    /// `[produce]`
    Produce {
        /// The records' key: `device`, `stream`, or a template.
        key: String,
    }
}

table! {
    /// `[window]`
    Window {
        /// Bound on all records in RAM.
        bytes: Bytes,
    }
}

/// `[spool]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// Age at which an unacknowledged batch is committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// Bound on the spooled batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Bytes>,
    /// Kept free on the file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes_min: Option<Bytes>,
    /// Inodes kept free on the file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_inodes_min: Option<u64>,
    /// The key that seals batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretFile>,
    /// Those that did before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_keys: Vec<SecretFile>,
    /// What happens to a lane that has no room.
    #[serde(default)]
    pub when_full: LanesWhenFull,
}

table! {
    /// `[spool.when_full]`
    LanesWhenFull {
        /// In the lane that goes first.
        high: WhenFull,
        /// In the lane of everything that is not said to be of another.
        normal: WhenFull,
        /// In the lane that goes last.
        low: WhenFull,
    }
}

table! {
    /// `[checkpoint]`
    Checkpoint {
        /// At this age.
        every: Period,
        /// Or after this much.
        bytes: Bytes,
    }
}

table! {
    /// `[uplink]`
    Uplink {
        /// Always connected, or from time to time.
        session: Session,
        /// Time from one session to the next.
        every: Period,
        /// Hours of each day in which it may be connected, UTC.
        hours: String,
        /// Most bytes between agent and brokers in an hour,
        bytes_per_hour: Bytes,
        /// in a day,
        bytes_per_day: Bytes,
        /// and in a month of the calendar (UTC).
        bytes_per_month: Bytes,
    }
}

table! {
    /// `[flash]`
    Flash {
        /// Budget of bytes written.
        bytes_per_day: Bytes,
    }
}

table! {
    /// `[memory]`
    Memory {
        /// What the process may take in all; its parts divide it.
        max: Bytes,
    }
}

table! {
    /// `[shutdown]`
    Shutdown {
        /// Time for the broker's last acknowledgements.
        flush: Period,
    }
}

table! {
    /// `[admin]`
    Admin {
        /// `unix:PATH`, `ADDRESS:PORT` on the loopback, or `off`.
        listen: String,
    }
}
