//! Each default once, with its reason. `headwater-agent check` prints these very sentences beside
//! the effective configuration, so that neither can drift from the other.

use headwater_msk::security::Mode;
use headwater_msk::{Bytes, Period};

use super::file::{LastLine, StartAt};
use crate::delivery::uplink::Session;
use crate::process::Form;
use crate::sample::read::Kind;
use crate::spool::{Lane, WhenFull};

/// Declares constants with their documentation, and the same documentation as a table by key.
macro_rules! defaults {
    ($( $(#[doc = $reason:literal])+ $key:literal $name:ident: $type:ty = $value:expr; )*) => {
        $( $(#[doc = $reason])+ pub const $name: $type = $value; )*

        /// The key of each default, `section.key` (`file.…`, `journal.…` and `sensor.…` for each source), and
        /// the lines of its reason.
        pub const REASONS: &[(&str, &[&str])] = &[ $( ($key, &[$($reason),+]) ),* ];
    };
}

defaults! {
    /// Where systemd's `StateDirectory=headwater` points, so that the unit and the binary agree.
    "state_dir" STATE_DIR: &str = "/var/lib/headwater";

    /// In memory, so that it is of this boot: `headwater-agent-boot.service` writes it before other programs write to
    /// their logs. Where it is missing, what was sent shortly before a power cut is sent once more.
    "boot_sizes" BOOT_SIZES: &str = "/run/headwater-boot/sizes";

    /// Enough between programs of one machine, and refused to any other unless `allow_plaintext` says
    /// otherwise. For MSK: "iam", or "mtls", "scram-sha-512", "tls".
    "kafka.security.mode" SECURITY_MODE: Mode = Mode::Plaintext;

    /// What is sent in plaintext can be read and changed on its way.
    "kafka.security.allow_plaintext" ALLOW_PLAINTEXT: bool = false;

    /// One device is in one partition and so in one order, and it needs one or two connections to
    /// brokers. "stream" spreads a busy device over partitions.
    "produce.key" PRODUCE_KEY: &str = "device";

    /// Holds some 13,000 lines of 200 bytes on their way: seconds of a busy device, and small beside
    /// 64 MiB of memory.
    "window.bytes" WINDOW_BYTES: Bytes = Bytes::mib(4);

    /// A healthy uplink acknowledges within this time, and then nothing but a checkpoint is written
    /// to flash. "0s" commits everything before it is sent.
    "spool.after" SPOOL_AFTER: Period = Period::secs(2);

    /// Several days of a device that logs 10 kB/s (compressed about 5 to 1), on a card of 8 GB and
    /// more.
    "spool.max_bytes" SPOOL_MAX_BYTES: Bytes = Bytes(1024 * 1024 * 1024);

    /// The device's own programs need some of it; a file system that is full to the last block fails
    /// in ways that nobody has tested.
    "spool.free_bytes_min" SPOOL_FREE_BYTES_MIN: Bytes = Bytes::mib(64);

    /// As above: without inodes nobody makes a file.
    "spool.free_inodes_min" SPOOL_FREE_INODES_MIN: u64 = 1000;

    /// Nothing is given up unless somebody says so: files keep what they have.
    "spool.when_full.high" WHEN_FULL_HIGH: WhenFull = WhenFull::Pause;

    /// As above.
    "spool.when_full.normal" WHEN_FULL_NORMAL: WhenFull = WhenFull::Pause;

    /// As above.
    "spool.when_full.low" WHEN_FULL_LOW: WhenFull = WhenFull::Pause;

    /// A crash costs sending this much again, never a second copy in S3; each checkpoint costs
    /// flash. Five times as long while less than 1 MiB has come.
    "checkpoint.every" CHECKPOINT_EVERY: Period = Period::secs(60);

    /// So that a fast stream does not send gigabytes again after a crash.
    "checkpoint.bytes" CHECKPOINT_BYTES: Bytes = Bytes::mib(64);

    /// A connection that stays costs no handshakes, and nothing waits. A large fleet wants "cycle".
    "uplink.session" UPLINK_SESSION: Session = Session::Always;

    /// Of a session's cycle: 3000 connections of a small MSK broker are then enough for a fleet of
    /// some tens of thousands.
    "uplink.every" UPLINK_EVERY: Period = Period::secs(900);

    /// Enough for one round trip to a slow broker; what is not acknowledged by then is spooled.
    "shutdown.flush" SHUTDOWN_FLUSH: Period = Period::secs(2);

    /// A socket in the state directory, which only the agent's user can enter: `status` and `tap` find
    /// it by this very configuration. "127.0.0.1:9180" serves Prometheus; "off" nobody.
    "admin.listen" ADMIN_LISTEN: &str = "unix:agent.sock";

    /// Neither an alarm nor a trace.
    "file.lane" FILE_LANE: Lane = Lane::Normal;

    /// Neither an alarm nor a trace.
    "journal.lane" JOURNAL_LANE: Lane = Lane::Normal;

    /// Neither an alarm nor a trace.
    "sensor.lane" SENSOR_LANE: Lane = Lane::Normal;

    /// Nothing that is there is left out unless somebody says so.
    "file.start_at" START_AT: StartAt = StartAt::Beginning;

    /// The longest that always fits: JSON can write one byte as six, non-UTF-8 lines carry base64
    /// beside it, and Kafka's message limit is 1 MB. Longer lines go in pieces.
    "file.max_line" MAX_LINE: Bytes = MAX_LINE_MOST;

    /// inotify tells of most changes at once; this finds the rest (network file systems, lost
    /// events), and is rare enough not to keep a processor awake.
    "file.rescan" RESCAN: Period = Period::secs(10);

    /// A program that was told to reopen its log writes its last lines to the old one within this
    /// time.
    "file.close_after" CLOSE_AFTER: Period = Period::secs(5);

    /// What nearly everything writes. Bytes that are no UTF-8 are kept beside the text.
    "file.encoding" ENCODING: &str = "utf-8";

    /// A program that writes a line in two parts is in the middle of it, however long that takes.
    "file.last_line" LAST_LINE: LastLine = LastLine::Wait;

    /// Longer than a program pauses within a line; used where `last_line` is not "wait".
    "file.last_line_after" LAST_LINE_AFTER: Period = Period::secs(5);

    /// Any consumer can read it alone, and it says when and by which device. "raw" is for who wants a line's
    /// bytes and nothing else.
    "file.value" FILE_VALUE: Form = Form::Json;

    /// As with files: nothing that is there is left out unless somebody says so.
    "journal.start_at" JOURNAL_START_AT: StartAt = StartAt::Beginning;

    /// As with files.
    "journal.value" JOURNAL_VALUE: Form = Form::Json;

    /// The simplest that there is: a number in a file.
    "sensor.kind" KIND: Kind = Kind::Number;

    /// Temperatures and loads move in minutes: six readings a minute show that.
    "sensor.interval" INTERVAL: Period = Period::secs(10);

    /// Readings in step: put off where many devices, or many sensors of one bus, read at once.
    "sensor.jitter" JITTER: Period = Period::secs(0);

    /// Readings at any moment: whole intervals make the whole fleet read at the same one.
    "sensor.align" ALIGN: bool = false;

    /// Often enough to see that a sensor lives, and a hundredth of what every reading would cost.
    "sensor.heartbeat" HEARTBEAT: Period = Period::secs(600);

    /// The number as it is read.
    "sensor.scale" SCALE: f64 = 1.0;

    /// The number as it is read.
    "sensor.offset" OFFSET: f64 = 0.0;
}

/// What it means that a setting without a default is left out, by its key.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "spool.key",
        "batches lie in the spool as they are, for whoever holds the card: a default key would be no secret",
    ),
    (
        "uplink.hours",
        "it may be connected at any hour: only its owner knows when the uplink is cheap",
    ),
    (
        "uplink.bytes_per_hour",
        "no budget: only its owner knows what the uplink costs",
    ),
    ("uplink.bytes_per_day", "as above"),
    ("uplink.bytes_per_month", "as above"),
    (
        "flash.bytes_per_day",
        "no budget: [checkpoint] and spool.after alone say how often is written",
    ),
    (
        "memory.max",
        "nothing is divided: window.bytes bounds what waits, and the unit's MemoryMax= all of it",
    ),
];

/// Smallest `window.bytes`: a batch from each of some sources at a time.
pub const WINDOW_BYTES_LEAST: Bytes = Bytes::kib(256);
/// Smallest `spool.max_bytes`: what an empty database with its write-ahead log takes, and a batch.
pub const SPOOL_MAX_BYTES_LEAST: Bytes = Bytes::kib(256);
/// Smallest budget of the uplink: connecting by TLS and asking for the topic takes some 10 KB, and a
/// batch of one line a few hundred bytes.
pub const UPLINK_BYTES_LEAST: Bytes = Bytes::kib(64);
/// Smallest `file.max_line`: shorter pieces would be more header than line.
pub const MAX_LINE_LEAST: Bytes = Bytes::kib(1);
/// Largest `file.max_line`. A line of control characters is written as six bytes each, and where
/// one byte of it is not UTF-8 as base64 besides: 7.34 times 128 KiB stay under librdkafka's and
/// the broker's limit of 1,000,000 bytes.
pub const MAX_LINE_MOST: Bytes = Bytes::kib(128);
/// Silence after which an event of several lines is over: a trace is written at once. Where nothing
/// else is written, each event costs a commit for that, since its end is no byte of the file.
pub const MULTILINE_TIMEOUT: Period = Period::secs(5);
/// Smallest interval of any kind: below it a small processor would do nothing else.
pub const INTERVAL_LEAST: Period = Period::millis(100);
