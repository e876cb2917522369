//! The configuration, as it is meant: checked against itself ([`super::sections`]), the output
//! ([`super::output`]), templates and tables ready. All problems are told at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use headwater_msk::{CredentialSettings, Kafka, Period, Topic};

use crate::books::AccountsFile;
use crate::config::defaults;
use crate::config::file::{ConfigFile, DynamoFile, Flush, Protocol, Tables};
use crate::config::output::{self, Output};
use crate::config::sections;
use crate::emf::Emf;
use crate::encode::Making;
use crate::format::Kind;
use crate::memory::{MemoryPlan, Needs};
use crate::partition::Bounds;
use crate::pipeline::{Pipeline, PipelineSpec, content_hash};
use crate::route::PathTemplate;
use crate::store::dynamodb::DynamoSettings;
use crate::tables::{Sources, read_bounded};
use crate::transform::StepFile;
use crate::transform::vrl::SOURCE_BYTES_MAX;

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
    /// How Parquet files are made in it.
    pub making: Arc<Making>,
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
    let output = match output::parse(file) {
        Ok(Output::S3(settings)) => *settings,
        _ => output::s3_for_tables(file),
    };
    Sources { paths, s3: output }
}

impl Plan {
    /// What bounds the batches of a partition.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            limits: self.flush,
            making: Arc::clone(&self.making),
        }
    }

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
        let mut problems = sections::problems(file);
        let listen = file.http.listen.as_ref().and_then(|text| {
            let wrong = |_| {
                problems.push(format!(
                    "http.listen {text:?}: write an address and a port, as \"127.0.0.1:9600\" or \"[::]:9600\""
                ));
            };
            text.parse().map_err(wrong).ok()
        });
        let output = output::parse(file)
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
            making: Arc::new(making(&memory)),
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
        parquet: (file.output.format == Kind::Parquet).then(cores),
        row_group: file.output.row_group.map(|bytes| bytes.0),
    }
}

/// Of a plan without Parquet: as a batch wants it that was begun by another configuration.
fn making(memory: &MemoryPlan) -> Making {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    match memory.makers {
        0 => Making::default(),
        makers => Making::new(size(memory.row_group), size(makers)),
    }
}

/// As many threads make batches.
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
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

fn dynamodb(file: &DynamoFile, under_way: u64) -> DynamoSettings {
    DynamoSettings {
        under_way,
        endpoint: file.endpoint.clone(),
        region: file.region.clone(),
        timeout: file.timeout.0,
    }
}

fn plan_pipeline(file: &ConfigFile, tables: &Tables) -> Result<Pipeline, Vec<String>> {
    let format = output::format(file)?;
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
#[cfg(test)]
mod tests;
