//! Object names: a function of the batch alone, so that whoever makes a batch again writes the same
//! names; and readable back, so that a listing of the bucket proves what is covered.
//!
//! ```text
//! <path>/<topic>+<partition>+<start, 20 digits>-<end, 20 digits>+<k>of<n>.<extension>
//! source=syslog/date=2026-11-24/logs+2+00000000000000000000-00000000000000051234+1of3.ndjson.zst
//! ```
//!
//! `[start, end)` is the batch's range of Kafka offsets. All `n` objects of a batch carry the same
//! range, numbered `1..=n` in the order of their paths.
//!
//! A batch without a record, which closes windows of groups that are quiet, covers no offset. Its name has the batch
//! clock, Unix milliseconds, in the place of the end: `<start>w<clock, 20 digits>`.

use std::fmt;

use crate::route::confine;

/// Folder of everything that is not data: state, configurations.
pub const OWN_FOLDER: &str = "_headwater/";

/// Longest key, in bytes, prefix and all: S3 has no longer ones.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest prefix that an output may have, in bytes, without the slash behind it.
pub const PREFIX_BYTES_MAX: usize = 200;
/// Longest name between two slashes, in bytes: a disk has no longer ones.
pub const PART_BYTES_MAX: usize = 255;

/// Longest name of a file of a topic, in bytes, without its folders: two numbers of 20 digits, a
/// partition of 10, and what stands between them.
pub fn file_bytes_max(topic: &str) -> usize {
    let range = "+2147483647+".len() + 2 * 20 + "-".len();
    topic.len() + range + "+1000000of1000000.".len() + "ndjson.zst".len()
}

/// Stands between the start and the clock of a batch that covers no offset.
const QUIET: char = 'w';

/// More objects than any batch has: a hundred times what `flush.objects` may be. A name that counts
/// higher is not one of ours.
const OBJECTS_MAX: usize = 1_000_000;

/// The name of one object, below the output's prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// What the path template gave for its rows; may be empty.
    pub path: String,
    /// Kafka topic: letters, digits, `.`, `_`, `-`.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// First offset that the batch covers.
    pub start: u64,
    /// First offset behind the batch.
    pub end: u64,
    /// The batch clock of one that covers no offset, Unix milliseconds: it ends where it starts.
    pub quiet_ms: Option<u64>,
    /// Which object of the batch, from 1.
    pub k: usize,
    /// How many objects the batch has.
    pub n: usize,
    /// File name extension without its dot, such as `ndjson.zst`.
    pub extension: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}/", self.path)?;
        }
        let (between, end) = match self.quiet_ms {
            None => ('-', self.end),
            Some(clock_ms) => (QUIET, clock_ms),
        };
        write!(
            f,
            "{}+{}+{:020}{between}{end:020}+{}of{}.{}",
            self.topic, self.partition, self.start, self.k, self.n, self.extension
        )
    }
}

impl ObjectName {
    /// Reads a name back. `None` where it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, file) = text.rsplit_once('/').unwrap_or(("", text));
        let mut parts = file.split('+');
        let (topic, partition, range, rest) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if topic.is_empty() || parts.next().is_some() {
            return None;
        }
        let is_quiet = range.contains(QUIET);
        let (start, end) = range.split_once(if is_quiet { QUIET } else { '-' })?;
        let number = |text: &str| digits(text).filter(|s| s.len() == 20)?.parse::<u64>().ok();
        let (start, end) = (number(start)?, number(end)?);
        let (count, extension) = rest.split_once('.')?;
        let (k, n) = count.split_once("of")?;
        let name = Self {
            path: path.to_owned(),
            topic: topic.to_owned(),
            partition: digits(partition)?.parse().ok()?,
            start,
            end: if is_quiet { start } else { end },
            quiet_ms: is_quiet.then_some(end),
            k: digits(k)?.parse().ok()?,
            n: digits(n)?.parse().ok()?,
            extension: extension.to_owned(),
        };
        let is_counted = (1..=name.n).contains(&name.k) && name.n <= OBJECTS_MAX;
        ((is_quiet || name.start < name.end) && is_counted).then_some(name)
    }
}

/// The name of an object that stands for several of one path: see [`crate::compact`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactedName {
    /// As theirs.
    pub path: String,
    /// As theirs.
    pub topic: String,
    /// As theirs.
    pub partition: i32,
    /// First offset of the first one's batch.
    pub start: u64,
    /// First offset behind the last one's batch.
    pub end: u64,
    /// How many.
    pub count: usize,
    /// As theirs.
    pub extension: String,
}

impl fmt::Display for CompactedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}/", self.path)?;
        }
        write!(
            f,
            "{}+{}+{:020}-{:020}+c{}.{}",
            self.topic, self.partition, self.start, self.end, self.count, self.extension
        )
    }
}

impl CompactedName {
    /// The name of what stands for objects, in order; none for none, and for such as cover no offset.
    pub fn of(names: &[&ObjectName]) -> Option<Self> {
        let (first, last) = (names.first()?, names.last()?);
        (first.start < last.end).then(|| Self {
            path: first.path.clone(),
            topic: first.topic.clone(),
            partition: first.partition,
            start: first.start,
            end: last.end,
            count: names.len(),
            extension: first.extension.clone(),
        })
    }

    /// Reads a name back. `None` where it is not such a one.
    pub fn parse(text: &str) -> Option<Self> {
        // It differs from one object's only in how it counts.
        let (head, tail) = text.rsplit_once("+c")?;
        let (count, extension) = tail.split_once('.')?;
        let count: usize = digits(count)?.parse().ok()?;
        let one = ObjectName::parse(&format!("{head}+1of1.{extension}"))?;
        (count > 0 && one.quiet_ms.is_none()).then_some(Self {
            path: one.path,
            topic: one.topic,
            partition: one.partition,
            start: one.start,
            end: one.end,
            count,
            extension: one.extension,
        })
    }
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// Folder of a partition's state snapshots.
pub fn state_folder(topic: &str, partition: i32) -> String {
    format!("{OWN_FOLDER}state/{topic}/{partition}/")
}

/// Folder of all partitions' state snapshots of a topic.
pub fn topic_state_folder(topic: &str) -> String {
    format!("{OWN_FOLDER}state/{topic}/")
}

/// A snapshot's file name: the offset that it is the state of, and a hash of its content. By its
/// content, so that two lineages (an operator moved the group's offset back) never meet in a name.
pub fn snapshot_name(end: u64, content: u32) -> String {
    format!("{end:020}-{content:08x}.json.zst")
}

/// The offset that a snapshot is the state of, from its file name.
pub fn snapshot_end(name: &str) -> Option<u64> {
    let (end, rest) = name.split_once('-')?;
    let hash = rest.strip_suffix(".json.zst")?;
    let hex = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    digits(end).filter(|s| hex && s.len() == 20)?.parse().ok()
}

/// Key of the marker that says that an hour of a partition is complete. `hour_ms`: its start, Unix
/// milliseconds.
pub fn marker_key(topic: &str, partition: i32, hour_ms: u64) -> String {
    let (day, hour) = day_and_hour(hour_ms);
    format!("{OWN_FOLDER}complete/{topic}/{day}T{hour:02}Z/{partition}.json")
}

/// Key of a day's account: of one device, or of those of the whole partition. `day_ms`: its start, Unix
/// milliseconds.
pub fn account_key(
    (topic, partition): (&str, i32),
    day_ms: u64,
    of: Option<AccountOf<'_>>,
) -> String {
    let (day, _) = day_and_hour(day_ms);
    let mut key = format!("{OWN_FOLDER}account/{topic}/{day}/");
    match of {
        None => return format!("{key}{partition}.ndjson"),
        Some(AccountOf::Device(device)) => {
            key.push_str("device=");
            confine(device, &mut key);
        }
        Some(AccountOf::Several(which)) => key.push_str(which),
    }
    format!("{key}/{partition}.json")
}

/// Whose an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOf<'a> {
    /// One device's. Its name may be any text.
    Device(&'a str),
    /// Several together: a word of ours.
    Several(&'a str),
}

/// In UTC, as `2026-11-28` and the hour.
fn day_and_hour(ms: u64) -> (String, i8) {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.unwrap_or(jiff::Timestamp::MAX);
    let at = at.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let day = format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day());
    (day, at.hour())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_golden_name() {
        let text = "source=syslog/date=2026-11-24/logs.v1+2+00000000000000000000-00000000000000051234+1of3.ndjson.zst";
        let name = ObjectName::parse(text).unwrap();
        assert_eq!(
            (name.topic.as_str(), name.partition, name.start, name.end),
            ("logs.v1", 2, 0, 51_234)
        );
        assert_eq!(
            (name.k, name.n, name.extension.as_str()),
            (1, 3, "ndjson.zst")
        );
        assert_eq!(name.to_string(), text);
    }

    #[test]
    fn the_golden_name_of_a_batch_without_a_record() {
        let text = "w/logs+2+00000000000000000042w00000001795852800123+1of3.ndjson.zst";
        let name = ObjectName::parse(text).unwrap();
        assert_eq!(
            (name.start, name.end, name.quiet_ms),
            (42, 42, Some(1_795_852_800_123))
        );
        assert_eq!(name.to_string(), text);
        assert_eq!(CompactedName::parse(&text.replace("1of3", "c2")), None);
        assert_eq!(CompactedName::of(&[&name, &name]), None);
        let before = ObjectName {
            start: 40,
            quiet_ms: None,
            ..name.clone()
        };
        let together = CompactedName::of(&[&before, &name]).unwrap();
        assert_eq!((together.start, together.end), (40, 42));
    }

    #[test]
    fn no_name_of_a_file_is_longer_than_it_is_said_to_be() {
        let most = file_bytes_max("logs");
        for extension in ["ndjson.zst", "csv.zst", "txt.gz", "parquet"] {
            let name = ObjectName {
                path: String::new(),
                topic: "logs".into(),
                partition: i32::MAX,
                start: u64::MAX - 1,
                end: u64::MAX,
                quiet_ms: None,
                k: OBJECTS_MAX,
                n: OBJECTS_MAX,
                extension: extension.into(),
            };
            let compacted = CompactedName::of(&vec![&name; 1_000_000]).unwrap();
            let quiet = ObjectName {
                quiet_ms: Some(u64::MAX),
                ..name.clone()
            };
            assert!(quiet.to_string().len() <= most);
            assert!(name.to_string().len() <= most && compacted.to_string().len() <= most);
        }
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for bad in [
            "",
            "photo.jpg",
            "logs+2+5-6+1of1.ndjson",
            "logs+2+00000000000000000006-00000000000000000006+1of1.ndjson",
            "logs+2+00000000000000000000-00000000000000000006+0of1.ndjson",
            "logs+2+00000000000000000000w6+1of1.ndjson",
            "logs+2+00000000000000000000w0000001795852800000-+1of1.ndjson",
            "logs+2+00000000000000000000-00000000000000000006+2of1.ndjson",
            "logs+2+00000000000000000000-00000000000000000006+1of99999999999.ndjson",
            "logs+-2+00000000000000000000-00000000000000000006+1of1.ndjson",
            "a+b+2+00000000000000000000-00000000000000000006+1of1.ndjson",
        ] {
            assert_eq!(ObjectName::parse(bad), None, "{bad}");
        }
        assert_eq!(snapshot_end(&snapshot_name(77, 9)), Some(77));
        assert_eq!(snapshot_end("77-9.json.zst"), None);
    }

    #[test]
    fn whatever_a_device_is_called_its_account_stays_in_its_place() {
        let key = |of| account_key(("logs", 3), 1_795_824_000_000, of);
        assert_eq!(key(None), "_headwater/account/logs/2026-11-28/3.ndjson");
        for (device, part) in [
            ("pi-7", "pi-7"),
            ("..", "%2E%2E"),
            ("a b+c\n", "a%20b%2Bc%0A"),
            ("", "__HIVE_DEFAULT_PARTITION__"),
        ] {
            let key = key(Some(AccountOf::Device(device)));
            assert_eq!(
                key,
                format!("_headwater/account/logs/2026-11-28/device={part}/3.json")
            );
            assert_eq!(ObjectName::parse(&key), None);
        }
        let shared = key(Some(AccountOf::Several("others")));
        assert_eq!(shared, "_headwater/account/logs/2026-11-28/others/3.json");
        assert!(key(Some(AccountOf::Device(&"é".repeat(500)))).len() < 200);
        let marker = marker_key("logs", 3, 1_795_824_000_000 + 13 * 3_600_000);
        assert_eq!(marker, "_headwater/complete/logs/2026-11-28T13Z/3.json");
        assert_eq!(ObjectName::parse(&marker), None);
    }

    proptest! {
        #[test]
        fn names_read_back(
            path in "([a-z=%0-9]{1,8}(/[a-z=%0-9]{1,8}){0,3})?", topic in "[a-zA-Z0-9._-]{1,20}",
            partition in 0..i32::MAX, start in 0..u64::MAX, length in 1_u64..1000, n in 1_usize..99,
        ) {
            let end = start.saturating_add(length);
            let name = ObjectName { path, topic, partition, start, end, quiet_ms: None, k: n, n, extension: "ndjson.gz".into() };
            let quiet = ObjectName { end: start, quiet_ms: Some(end), ..name.clone() };
            prop_assert_eq!(ObjectName::parse(&quiet.to_string()), Some(quiet));
            prop_assert_eq!(ObjectName::parse(&name.to_string()), Some(name.clone()));
            let compacted = CompactedName::of(&[&name, &name]);
            let text = compacted.as_ref().map(ToString::to_string).unwrap_or_default();
            prop_assert_eq!(ObjectName::parse(&text), None);
            prop_assert_eq!(CompactedName::parse(&text), compacted);
            prop_assert_eq!(CompactedName::parse(&name.to_string()), None);
        }
    }
}
