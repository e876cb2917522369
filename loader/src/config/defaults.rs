//! Every default, once, with its reason.

use headwater_msk::{Bytes, Period};

/// A member that is gone is noticed after this long; a restarted loader waits for it unless
/// `group.instance` is set. Brokers allow 6 s at least.
pub const SESSION_TIMEOUT: Period = Period::secs(10);
/// Memory that the objects of one batch may take, compressed for the most part: objects large
/// enough for Athena, small enough to make again quickly.
pub const FLUSH_BYTES: Bytes = Bytes::mib(32);
/// Records of one batch: bounds what a replay reads again.
pub const FLUSH_RECORDS: u64 = 2_000_000;
/// How long a record waits at most before its object is written.
pub const FLUSH_AGE: Period = Period::secs(60);
/// Memory of the whole process: what a small container gives, and enough for 112 MiB of batches.
pub const MEMORY: Bytes = Bytes::mib(256);
/// Objects of one batch: a path template with a value of its own for each record would otherwise
/// write an object for each record.
pub const FLUSH_OBJECTS: u32 = 1000;
/// How long a closed, complete generation stays in the ledger: longer than any re-send.
pub const LEDGER_RETENTION: Period = Period::secs(7 * 24 * 3600);
/// Memory of one partition's ledger: more than a hundred thousand streams, and a quarter of what the
/// process has, so that whoever makes up streams fills a partition's ledger and not the machine.
pub const LEDGER: Bytes = Bytes::mib(64);
/// What that bound may be: a state of the upper one can still be read, whatever it holds.
pub const LEDGER_RANGE: (Bytes, Bytes) = (Bytes::mib(1), Bytes::mib(256));
/// How long a stop may take to write what is open; what is not written then is read again.
pub const STOP_GRACE: Period = Period::secs(30);
/// Hive-style, by source and by the event's day and hour.
pub const PATH: &str = "source={source}/date={time:%Y-%m-%d}/hour={time:%H}";
/// Objects above this go in parts: below it one request is cheaper and as safe.
pub const MULTIPART_ABOVE: Bytes = Bytes::mib(64);
/// How long S3 may take to answer a request: a 64 MiB object at 10 Mbit/s.
pub const S3_TIMEOUT: Period = Period::secs(60);
/// What a row group may be set to, packed: smaller ones are mostly their own statistics, and readers hold a whole one.
pub const ROW_GROUP_RANGE: (Bytes, Bytes) = (Bytes::mib(1), Bytes::mib(512));
/// How often metrics are written for CloudWatch: its own resolution.
pub const EMF_EVERY: Period = Period::secs(60);
/// How long DynamoDB may take to answer a request: it mostly takes milliseconds.
pub const DYNAMODB_TIMEOUT: Period = Period::secs(10);
/// Column of what no declared one takes: a schema that somebody forgot to extend loses nothing.
pub const OVERFLOW: &str = "_rest";
/// Where the agent puts a line.
pub const RAW_FIELD: &str = "message";
