//! The configuration, as it is meant: checked against itself, templates and tables ready. All
//! problems are told at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use headwater_msk::{Bytes, CredentialSettings, Kafka, Period, Topic};

use crate::books::{AccountsFile, DEVICES_MAX};
use crate::config::defaults;
use crate::config::file::{
    ConfigFile, DynamoFile, EmfFile, EncryptionFile, Flush, Group, Protocol, S3File, Tables,
};
use crate::emf::Emf;
use crate::encode::Compression;
use crate::format::{Format, Kind};
use crate::memory::{MemoryPlan, Needs};
use crate::name::{KEY_BYTES_MAX, PART_BYTES_MAX, PREFIX_BYTES_MAX, file_bytes_max};
use crate::partition::Layout;
use crate::pipeline::{Pipeline, PipelineSpec, content_hash};
use crate::route::PathTemplate;
use crate::store::dynamodb::DynamoSettings;
use crate::store::s3::S3Settings;
use crate::store::s3::options::{Encryption, S3Options};
use crate::tables::{Sources, read_bounded};
use crate::transform::StepFile;
use crate::transform::vrl::SOURCE_BYTES_MAX;

/// Longest path of a folder, in bytes: Linux takes 4095, a longest key among them.
const FOLDER_BYTES_MAX: usize = 4095 - 1 - KEY_BYTES_MAX;

/// What the program runs on.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where records come from.
    pub kafka: Kafka,
    /// Where AWS credentials for Kafka come from.
    pub credentials: CredentialSettings,
    /// What the topic should be.
    pub topic: Topic,
    /// Consumer group id.
    pub group: String,
    /// Static membership.
    pub instance: Option<String>,
    /// How the group is kept.
    pub protocol: Protocol,
    /// How long a silent member keeps its partitions, with the classic protocol.
    pub session_timeout: Period,
    /// Where rows go.
    pub output: Output,
    /// How DynamoDB is reached, where rows go there, too.
    pub dynamodb: DynamoSettings,
    /// When a batch is closed.
    pub flush: crate::partition::Limits,
    /// What memory is for.
    pub memory: MemoryPlan,
    /// How long a stop may take.
    pub stop_grace: Period,
    /// Where metrics and health are told.
    pub listen: Option<SocketAddr>,
    /// Metrics for CloudWatch, and how often; none unless asked for.
    pub emf: Option<(Emf, Period)>,
    /// As a function: whether an answer names the partitions that failed.
    pub report_batch_item_failures: bool,
    /// What happens to a record.
    pub pipeline: Arc<Pipeline>,
    /// Contents of the tables that it uses, as of the start.
    pub tables: Arc<Tables>,
    /// Where they are read again,
    pub table_sources: Sources,
    /// and how often.
    pub table_reload: Option<Period>,
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A bucket.
    S3(Box<S3Settings>),
    /// A local folder.
    Folder(PathBuf),
}

/// The paths of the tables that a configuration names.
pub fn table_paths(file: &ConfigFile) -> impl Iterator<Item = &PathBuf> {
    file.transform.iter().flat_map(StepFile::tables)
}

/// Reads the programs that lie in files of their own into the configuration.
///
/// # Errors
/// One line for each that cannot be read.
pub fn read_programs(file: &mut ConfigFile) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    for step in &mut file.transform {
        let StepFile::Vrl(program) = step else {
            continue;
        };
        let Some(path) = program.file.clone().filter(|_| program.source.is_none()) else {
            continue;
        };
        match read_bounded(&path, SOURCE_BYTES_MAX).map(String::from_utf8) {
            Ok(Ok(source)) => *program = program.with_source(source),
            Ok(Err(_)) => {
                problems.push(format!("transform.file {}: it is no UTF-8", path.display()))
            }
            Err(error) => problems.push(format!("transform.file {}: {error}", path.display())),
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems),
    }
}

/// Where the tables that a configuration names are read: buckets are reached as the output's is.
pub fn table_sources(file: &ConfigFile) -> Sources {
    let mut paths: Vec<PathBuf> = table_paths(file).cloned().collect();
    paths.sort_unstable();
    paths.dedup();
    let output = match parse_output(file) {
        Ok(Output::S3(settings)) => *settings,
        _ => s3_settings(file, "", "", s3_options(&file.output.s3).0),
    };
    Sources { paths, s3: output }
}

impl Plan {
    /// Makes a plan of what is written. `memory_there`: bytes that this process may use, where that is
    /// known.
    ///
    /// # Errors
    /// Every problem, each with the key that it is about.
    pub fn new(
        file: &ConfigFile,
        tables: Tables,
        memory_there: Option<u64>,
    ) -> Result<Self, Vec<String>> {
        let mut problems = section_problems(file);
        let listen = file.http.listen.as_ref().and_then(|text| {
            let wrong = |_| {
                problems.push(format!(
                    "http.listen {text:?}: write an address and a port, as \"127.0.0.1:9600\" or \"[::]:9600\""
                ));
            };
            text.parse().map_err(wrong).ok()
        });
        let output = parse_output(file)
            .map_err(|wrong| problems.extend(wrong))
            .ok();
        let pipeline = plan_pipeline(file, &tables)
            .map_err(|wrong| problems.extend(wrong))
            .ok();
        let needs = needs(file, &tables, pipeline.as_ref());
        let memory = MemoryPlan::new(file.limits.memory.0, memory_there, needs)
            .map_err(|error| problems.push(error.to_string()))
            .ok();
        let (Some(output), Some(pipeline), Some(memory), true) =
            (output, pipeline, memory, problems.is_empty())
        else {
            return Err(problems);
        };
        Ok(Self {
            kafka: file.kafka.clone(),
            credentials: file.credentials.clone(),
            topic: file.topic.clone(),
            group: file.group.id.clone(),
            instance: file.group.instance.clone(),
            protocol: file.group.protocol,
            session_timeout: file
                .group
                .session_timeout
                .unwrap_or(defaults::SESSION_TIMEOUT),
            output,
            dynamodb: dynamodb(&file.output.dynamodb, memory.items),
            flush: limits(&file.flush),
            memory,
            stop_grace: file.limits.stop_grace,
            listen,
            emf: file.emf.namespace.clone().map(|namespace| {
                let emf = Emf {
                    namespace,
                    group: file.group.id.clone(),
                    topic: file.kafka.topic.clone(),
                };
                (emf, file.emf.every)
            }),
            report_batch_item_failures: file.lambda.report_batch_item_failures,
            pipeline: Arc::new(pipeline),
            tables: Arc::new(tables),
            table_sources: table_sources(file),
            table_reload: file
                .tables
                .reload
                .filter(|_| table_paths(file).next().is_some()),
        })
    }
}

/// What memory is needed for. Where there is no pipeline, that is said anyway.
fn needs(file: &ConfigFile, tables: &Tables, pipeline: Option<&Pipeline>) -> Needs {
    let raw: usize = tables.values().map(Vec::len).sum();
    let held = pipeline.map_or(0, Pipeline::tables_held);
    Needs {
        flush: file.flush.bytes.0,
        tables: (raw + held) as u64,
        reload: file.tables.reload.is_some() && !tables.is_empty(),
        items: !file.output.dynamodb.table.is_empty(),
    }
}

/// What is wrong with each section by itself.
fn section_problems(file: &ConfigFile) -> Vec<String> {
    let mut problems: Vec<String> = file
        .kafka
        .problems(&file.credentials)
        .iter()
        .map(ToString::to_string)
        .collect();
    problems.extend(file.topic.problems());
    problems.extend(group_problems(&file.group));
    problems.extend(flush_problems(&file.flush));
    problems.extend(ledger_problem(file.limits.ledger));
    problems.extend(emf_problems(&file.emf));
    if !(1..=DEVICES_MAX).contains(&file.accounts.devices) {
        problems.push(format!(
            "accounts.devices is {}: 1 to {DEVICES_MAX} are allowed",
            file.accounts.devices
        ));
    }
    problems.extend(dynamodb_problems(&file.output.dynamodb));
    if file
        .tables
        .reload
        .is_some_and(|every| every < Period::secs(1))
    {
        problems.push("tables.reload is below 1s: each time all tables are read whole".into());
    }
    problems
}

fn limits(flush: &Flush) -> crate::partition::Limits {
    crate::partition::Limits {
        bytes: usize::try_from(flush.bytes.0).unwrap_or(usize::MAX),
        records: flush.records,
        age_ms: flush.age.as_millis(),
        idle_ms: flush.idle.map(Period::as_millis),
        every_ms: flush.every.map(Period::as_millis),
        objects: usize::try_from(flush.objects).unwrap_or(usize::MAX),
    }
}

fn group_problems(group: &Group) -> Vec<String> {
    let mut problems = Vec::new();
    if group.id.is_empty() || !group.id.is_ascii() {
        problems
            .push("group.id: give the group an ASCII name (MSK's lag metrics want ASCII)".into());
    }
    if group.protocol == Protocol::Consumer && group.session_timeout.is_some() {
        problems.push(
            "group.session_timeout: with group.protocol = \"consumer\" the session is the broker's \
             (group.consumer.session.timeout.ms); remove it here"
                .into(),
        );
    }
    problems
}

fn emf_problems(emf: &EmfFile) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(namespace) = &emf.namespace
        && !is_namespace(namespace)
    {
        problems.push(format!(
            "emf.namespace {namespace:?}: 1 to 256 of A-Z a-z 0-9 . - _ / # : and space are allowed, not \
             beginning with AWS/"
        ));
    }
    if !(Period::secs(1)..=Period::secs(3600)).contains(&emf.every) {
        problems.push(format!("emf.every is {}: 1s to 1h are allowed", emf.every));
    }
    problems
}

/// What CloudWatch takes as a custom namespace.
fn is_namespace(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/#: ".contains(c);
    (1..=256).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with("AWS/")
        && !text.starts_with(':')
        && !text.trim().is_empty()
}

fn ledger_problem(ledger: Bytes) -> Option<String> {
    let (least, most) = defaults::LEDGER_RANGE;
    let allowed = (least..=most).contains(&ledger);
    (!allowed).then(|| format!("limits.ledger is {ledger}: {least} to {most} are allowed"))
}

fn flush_problems(flush: &Flush) -> Vec<String> {
    let mut problems = Vec::new();
    if flush.bytes < Bytes::kib(64) || flush.bytes > Bytes::mib(1024) {
        problems.push(format!(
            "flush.bytes is {}: 64KiB to 1GiB are allowed",
            flush.bytes
        ));
    }
    if flush.records == 0 {
        problems.push("flush.records is 0: a batch needs a record at least".into());
    }
    if !(1..=10_000).contains(&flush.objects) {
        problems.push(format!(
            "flush.objects is {}: 1 to 10000 are allowed",
            flush.objects
        ));
    }
    if flush.age < Period::millis(100) {
        problems
            .push("flush.age is below 100ms: every batch costs two commits and a request".into());
    }
    if flush.idle.is_some_and(|idle| idle < Period::millis(100)) {
        problems.push(
            "flush.idle is below 100ms: records that come one by one would each make a batch"
                .into(),
        );
    }
    problems.extend(
        flush
            .every
            .and_then(|every| every_problem(every, flush.age)),
    );
    problems
}

fn every_problem(every: Period, age: Period) -> Option<String> {
    let day_ms = Period::secs(24 * 3600).as_millis();
    if every < Period::secs(1) || !day_ms.is_multiple_of(every.as_millis()) {
        return Some(format!(
            "flush.every is {every}: write a period that a day is a multiple of, as 15m or 1h"
        ));
    }
    (age < every).then(|| {
        format!("flush.every is {every}, and flush.age closes batches after {age}: set flush.age to {every} at least")
    })
}

fn dynamodb(file: &DynamoFile, under_way: u64) -> DynamoSettings {
    DynamoSettings {
        under_way,
        endpoint: file.endpoint.clone(),
        region: file.region.clone(),
        timeout: file.timeout.0,
    }
}

fn dynamodb_problems(file: &DynamoFile) -> Vec<String> {
    let mut problems = Vec::new();
    if file.timeout < Period::millis(100) {
        problems.push("output.dynamodb.timeout: 100ms are the least".into());
    }
    if file.table.is_empty() && *file != DynamoFile::default() {
        problems.push("output.dynamodb has no [[output.dynamodb.table]]".into());
    }
    let name = |at: usize| file.table.get(at).map(|table| &table.name);
    for at in 0..file.table.len() {
        if (0..at).any(|before| name(before) == name(at)) {
            problems.push(format!(
                "output.dynamodb.table {:?} stands there twice",
                name(at).map_or("", |name| name)
            ));
        }
    }
    problems
}

fn format(file: &ConfigFile) -> Result<Format, Vec<String>> {
    let output = &file.output;
    let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
    let table = matches!(output.format, Kind::Csv | Kind::Parquet);
    let raw = output.format == Kind::Raw;
    let format = Format {
        kind: output.format,
        columns: match table {
            true => output.column.clone(),
            false => Vec::new(),
        },
        overflow: named(&output.overflow).filter(|_| table),
        raw_field: named(&output.raw_field).filter(|_| raw),
    };
    let mut problems = format.problems();
    if output.format == Kind::Parquet && output.compression == Compression::Gzip {
        problems.push("output.compression: Parquet is written with zstd or none".into());
    }
    if output.format == Kind::Parquet && output.layout == Layout::Record {
        problems.push(
            "output.layout \"record\": a Parquet file of one row is mostly its own schema; take ndjson, csv or raw"
                .into(),
        );
    }
    if raw && !output.column.is_empty() {
        problems.push("output.column: raw lines have no columns".into());
    }
    match problems.is_empty() {
        true => Ok(format),
        false => Err(problems),
    }
}

fn plan_pipeline(file: &ConfigFile, tables: &Tables) -> Result<Pipeline, Vec<String>> {
    let format = format(file)?;
    let aggregates = |step: &StepFile| matches!(step, StepFile::Aggregate(_));
    if format.kind == Kind::Raw && file.transform.iter().any(aggregates) {
        return Err(vec![
            "output.format \"raw\" holds lines as they came; the rows of an aggregate need ndjson, csv or \
             parquet"
                .into(),
        ]);
    }
    let mut before = file.transform.iter().filter(|step| aggregates(step));
    while let Some(step) = before.next() {
        if before.clone().any(|other| other == step) {
            return Err(vec!["two aggregate steps are the same; remove one".into()]);
        }
    }
    let path = PathTemplate::try_from(file.output.path.clone());
    let path = path.and_then(|path| path.fits(&file.kafka.topic).map(|()| path));
    let spec = PipelineSpec {
        transform: file.transform.iter().map(StepFile::stored).collect(),
        tables: tables
            .iter()
            .map(|(path, bytes)| (path.clone(), content_hash(bytes)))
            .collect(),
        path: path.map_err(|error| vec![error.to_string()])?,
        compression: file.output.compression,
        format,
        layout: file.output.layout,
        ledger_retention: file.limits.ledger_retention,
        ledger: Some(file.limits.ledger),
        items: file.output.dynamodb.table.clone(),
        accounts: match file.accounts.is_off() {
            true => AccountsFile::default(),
            false => file.accounts,
        },
    };
    Pipeline::new(spec, |path| tables.get(path).map(Vec::as_slice))
        .map_err(|error| vec![error.to_string()])
}

/// The output that a configuration names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_output(file: &ConfigFile) -> Result<Output, Vec<String>> {
    let url = &file.output.url;
    let one = |problem: String| Err(vec![problem]);
    if let Some(path) = url.strip_prefix("file://") {
        return match path.starts_with('/') {
            true if file.output.s3 != S3File::default() => one(
                "output.s3: it is for s3:// outputs, and output.url is a folder; remove it".into(),
            ),
            true => match folder_problem(path, &file.kafka.topic) {
                Some(problem) => one(problem),
                None => Ok(Output::Folder(path.into())),
            },
            false => one(format!(
                "output.url {url:?}: a folder is written file:///with/its/whole/path"
            )),
        };
    }
    let Some(rest) = url.strip_prefix("s3://") else {
        return one(format!(
            "output.url {url:?}: it begins with s3:// or file://"
        ));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let (options, mut problems) = s3_options(&file.output.s3);
    if bucket.is_empty() {
        problems.push(format!(
            "output.url {url:?} names no bucket: s3://bucket/prefix"
        ));
    }
    let prefix = prefix.trim_matches('/');
    if prefix.len() > PREFIX_BYTES_MAX || prefix.split('/').any(|part| matches!(part, "." | "..")) {
        problems.push(format!(
            "output.url {url:?}: a prefix has {PREFIX_BYTES_MAX} bytes at most and no '..'"
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Output::S3(Box::new(s3_settings(
        file, bucket, prefix, options,
    ))))
}

/// Why no file could be written into a folder, where none could.
fn folder_problem(folder: &str, topic: &str) -> Option<String> {
    let (file, beside) = (file_bytes_max(topic), file_bytes_max(""));
    if file > PART_BYTES_MAX {
        return Some(format!(
            "kafka.topic: its name is of {} bytes, and in a folder it has {} at most, since it stands in the names of \
             files with {beside} bytes of numbers (of {PART_BYTES_MAX}); s3:// takes it",
            topic.len(),
            PART_BYTES_MAX - beside
        ));
    }
    let long = folder.split('/').any(|part| part.len() > PART_BYTES_MAX);
    (long || folder.len() > FOLDER_BYTES_MAX).then(|| {
        format!(
            "output.url: a folder's path has {FOLDER_BYTES_MAX} bytes at most, and each of its parts {PART_BYTES_MAX}"
        )
    })
}

fn s3_settings(file: &ConfigFile, bucket: &str, prefix: &str, options: S3Options) -> S3Settings {
    S3Settings {
        bucket: bucket.to_owned(),
        prefix: if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        },
        endpoint: file.output.endpoint.clone(),
        region: file.output.region.clone(),
        path_style: file.output.path_style,
        options,
    }
}

fn s3_options(file: &S3File) -> (S3Options, Vec<String>) {
    let encryption = match file.encryption {
        EncryptionFile::Bucket => Encryption::Bucket,
        EncryptionFile::S3 => Encryption::S3,
        EncryptionFile::Kms => Encryption::Kms(file.kms_key.clone()),
    };
    let options = S3Options {
        encryption,
        storage_class: file.storage_class.clone(),
        tags: file.tags.clone(),
        owner: file.expected_bucket_owner.clone(),
        conditional: file.conditional_writes,
        multipart_above: usize::try_from(file.multipart_above.0).unwrap_or(usize::MAX),
        timeout: file.timeout.0,
    };
    let mut problems = options.problems();
    if file.kms_key.is_some() && file.encryption != EncryptionFile::Kms {
        problems.push("output.s3.kms_key needs output.s3.encryption = \"kms\"".into());
    }
    (options, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [kafka]
        brokers = ["localhost:9092"]
        topic = "logs"
        [group]
        id = "loader"
        [output]
        url = "s3://bucket/a/b/"
    "#;

    fn plan(text: &str) -> Result<Plan, Vec<String>> {
        let file: ConfigFile =
            headwater_msk::config_file::parse(text).map_err(|error| vec![error])?;
        let tables = table_sources(&file).read()?;
        Plan::new(&file, tables, None)
    }

    #[test]
    fn a_short_file_is_enough() {
        let plan = plan(GOOD).unwrap();
        let Output::S3(s3) = plan.output else {
            panic!("it is S3")
        };
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("bucket", "a/b/"));
        assert_eq!(plan.flush.age_ms, 60_000);
    }

    #[test]
    fn what_no_name_has_room_for_is_refused_at_the_start() {
        let said = |url: &str, topic: usize, path: usize| {
            let text = GOOD
                .replace("s3://bucket/a/b/", url)
                .replace("\"logs\"", &format!("\"{}\"", "t".repeat(topic)));
            let path = "p".repeat(path);
            plan(&format!("{text}\npath = \"{path}/{{device}}\"\n")).map(|_| ())
        };
        let name = |bytes: usize| "d".repeat(bytes);
        let folder = |parts: usize| format!("file://{}", format!("/{}", name(254)).repeat(parts));
        for (url, topic, path) in [
            ("file:///out", 174, 255),
            (&folder(12), 9, 9),
            (&format!("s3://b/{}", name(200)), 249, 255),
        ] {
            assert_eq!(said(url, topic, path), Ok(()), "{url}");
        }
        for (url, topic, path, why) in [
            ("file:///out", 175, 9, "in a folder it has 174 at most"),
            (&folder(13), 9, 9, "a folder's path has 3070"),
            (
                &format!("file:///{}", name(256)),
                9,
                9,
                "each of its parts 255",
            ),
            ("s3://b", 9, 256, "a part of its path is longer than 255"),
            (&format!("s3://b/{}", name(201)), 9, 9, "200 bytes at most"),
        ] {
            let problems = said(url, topic, path).unwrap_err();
            assert!(problems[0].contains(why), "{problems:?}");
        }
    }

    #[test]
    fn accounts_are_of_the_pipeline_where_there_are_some() {
        let hash = |more: &str| {
            plan(&format!("{GOOD}\n{more}"))
                .unwrap()
                .pipeline
                .hash()
                .to_owned()
        };
        assert_eq!(
            hash("[accounts]\ndevices = 7\n"),
            hash(""),
            "nothing is asked for"
        );
        assert_ne!(hash("[accounts]\ndaily = 'device'\n"), hash(""));
        assert_ne!(hash("[accounts]\nhourly_markers = true\n"), hash(""));
        let none = plan(&format!("{GOOD}\n[accounts]\ndevices = 0\n"));
        assert!(none.unwrap_err()[0].contains("accounts.devices"));
    }

    #[test]
    fn problems_are_told_all_at_once_and_unknown_keys_named() {
        let bad = GOOD
            .replace("s3://bucket/a/b/", "ftp://x")
            .replace("\"logs\"", "\"\"")
            + "path = '../x'\n[flush]\nbytes = '1KiB'\nage = '1ms'\n";
        assert_eq!(plan(&bad).unwrap_err().len(), 5);
        for wrong in ["namespace = 'AWS/Kafka'", "namespace = ''", "every = '0s'"] {
            let error = plan(&format!("{GOOD}\n[emf]\n{wrong}\n")).unwrap_err();
            assert!(error[0].starts_with("emf."), "{error:?}");
        }
        let error = plan(&format!("{GOOD}\n[flush]\nagee = '1s'\n")).unwrap_err();
        assert!(error[0].contains("did you mean `age`?"), "{error:?}");
        for (flush, said) in [
            ("every = '7m'\nage = '1h'", "a day is a multiple of"),
            ("every = '15m'", "set flush.age to 15m"),
            ("idle = '1ms'", "flush.idle"),
        ] {
            let problems = plan(&format!("{GOOD}\n[flush]\n{flush}\n")).unwrap_err();
            assert!(problems[0].contains(said), "{problems:?}");
        }
        let timed = format!("{GOOD}\n[flush]\nevery = '15m'\nage = '15m'\nidle = '10s'\n");
        let flush = plan(&timed).unwrap().flush;
        assert_eq!(
            (flush.idle_ms, flush.every_ms),
            (Some(10_000), Some(900_000))
        );
        let table = "[[output.dynamodb.table]]\nname='items'\nmode='latest'\npartition_key={name='pk',value='{device}'}\n";
        assert_eq!(
            plan(&format!("{GOOD}\n{table}"))
                .unwrap()
                .pipeline
                .items()
                .len(),
            1
        );
        for (bad, word) in [
            (format!("{GOOD}\n{table}{table}"), "twice"),
            (
                format!("{GOOD}\n[output.dynamodb]\nregion='x'\n"),
                "has no [[output",
            ),
            (
                format!("{GOOD}\n{table}[output.dynamodb]\ntimeout='1ms'\n"),
                "100ms",
            ),
            (
                format!("{GOOD}\n{}", table.replace("items", "x")),
                "3 to 255",
            ),
        ] {
            let problems = plan(&bad).unwrap_err();
            assert!(
                problems.iter().any(|problem| problem.contains(word)),
                "{problems:?}"
            );
        }
        let lost =
            format!("{GOOD}\n[[transform]]\nstep='lookup'\ntable='/no/such.csv'\nfield='x'\n");
        assert!(plan(&lost).unwrap_err()[0].contains("/no/such.csv"));
    }
}
