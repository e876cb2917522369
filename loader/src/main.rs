//! The command line of headwater-loader.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use headwater_loader::books::AccountsFile;
use headwater_loader::cli::audit::{By, Choice, Named};
use headwater_loader::cli::columns;
use headwater_loader::cli::compact::Wanted;
use headwater_loader::cli::dry_run::{Prices, Sample};
use headwater_loader::cli::replay::{Stretch, Until};
use headwater_loader::config::{ConfigFile, output};
use headwater_loader::range::position::Position;
use headwater_loader::store::Store;
use headwater_loader::{cli, clock, lambda, supervise};
use headwater_msk::config_file::ConfigError;
use headwater_msk::{Bytes, Period};

/// Takes records from Kafka, transforms them and writes them to S3, exactly once.
#[derive(Debug, Parser)]
#[command(name = "headwater-loader", version)]
struct Args {
    /// How much is said on standard error: error, warn, info or debug.
    #[arg(long, global = true, default_value = "info", value_parser = level)]
    log: tracing::Level,
    #[command(subcommand)]
    command: Command,
}

/// Not `trace`: there AWS's signer says what it signs, the session token included.
fn level(text: &str) -> Result<tracing::Level, String> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        _ => Err("error, warn, info or debug; at trace, libraries would say secrets".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load until told to stop (SIGTERM: what is open is written first).
    Run(Config),
    /// Be a function of AWS Lambda behind a Kafka trigger (as `bootstrap`, without arguments).
    Lambda(Config),
    /// Check the configuration and print it with its defaults.
    Check(Config),
    /// Run the pipeline over records from standard input, one value a line, without Kafka.
    Test(Test),
    /// Run the configuration over records that are in the topic, beside the group, and say what would
    /// be written: objects, sizes, paths, rejects, requests and cost a day. Nothing is written; exit
    /// status 1 where the guard against too many paths closed a batch.
    Plan(DryRun),
    /// Print [[output.column]] for what a sample of rows holds, to be put into the configuration.
    Columns(Columns),
    /// Write a stretch of the topic once more, into another place, beside the group. Killed, it is run
    /// again.
    Replay(Replay),
    /// Write what the topic has before the output's first record, into another place: `replay` from
    /// the earliest record up to there.
    Backfill(Backfill),
    /// Put small objects of one path together, where nobody writes any more; without --apply it only
    /// says which.
    Compact(Compact),
    /// What could not be made rows.
    #[command(subcommand)]
    Dlq(Dlq),
    /// Print an Athena table over what is written.
    Ddl(Config),
    /// Say what has come of every stream; exit status 1 where a gap is unexplained.
    Audit(Audit),
    /// Say whether the objects' names tile every partition, from its first offset to its last; exit status 1 where
    /// they do not.
    Verify(Verify),
    /// Make the topic, describe it, or say what of it costs data.
    Topics(Topics),
}

#[derive(Debug, clap::Args)]
struct Config {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Topics {
    verb: cli::topics::Verb,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, clap::Args)]
struct Reading {
    #[command(flatten)]
    config: Config,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Audit {
    #[command(flatten)]
    reading: Reading,
    /// Only the streams of this device; with * behind it, of all whose names begin so.
    #[arg(long, value_name = "NAME")]
    device: Option<Named>,
    /// What a line is: one generation of one stream, or one device over all of its streams.
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Print only what has a gap that nothing explains; counted is all.
    #[arg(long)]
    gaps: bool,
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    reading: Reading,
    /// Objects expire when they are so old, such as 30days: where the oldest of a partition are not there, that is no
    /// problem, nor where none is and the last was written before.
    #[arg(long, value_name = "AGE")]
    expires: Option<Period>,
}

#[derive(Debug, clap::Args)]
struct Test {
    #[command(flatten)]
    config: Config,
    /// Compare with what is in this file; exit status 1 where it differs.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// The batch clock, RFC 3339.
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z")]
    now: String,
}

/// Which records of the topic are looked at.
#[derive(Debug, clap::Args)]
struct SomeRecords {
    /// How many records to look at, over all partitions.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Where to begin: earliest, latest-N, an offset, or a time (RFC 3339); by default the newest
    /// records, as many of each partition.
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,
    /// Only this partition; may be given again.
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
}

#[derive(Debug, clap::Args)]
struct DryRun {
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    some: SomeRecords,
    /// Dollars for 1000 PUT requests; an example: S3 Standard in us-east-1.
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.005)]
    price_put: f64,
    /// Dollars for a GiB in a month; an example: S3 Standard in us-east-1.
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.023)]
    price_storage: f64,
    /// Dollars for a million write request units; an example: DynamoDB on demand in us-east-1.
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.625)]
    price_write: f64,
}

impl DryRun {
    fn sample(&self) -> Sample {
        Sample {
            records: self.some.records,
            from: self.some.from,
            partitions: self.some.partition.clone(),
            prices: Prices {
                put: self.price_put,
                storage: self.price_storage,
                write: self.price_write,
            },
        }
    }
}

#[derive(Debug, clap::Args)]
struct Columns {
    #[command(flatten)]
    reading: Reading,
    /// Take records from standard input, one value a line, instead of the topic.
    #[arg(long, conflicts_with_all = ["from", "partition"])]
    stdin: bool,
    #[command(flatten)]
    some: SomeRecords,
    /// A field gets a column where at least this part of the rows has a value for it.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    at_least: f64,
}

impl Columns {
    fn wanted(&self) -> columns::Wanted {
        columns::Wanted {
            stdin: self.stdin,
            records: self.some.records,
            from: self.some.from,
            partitions: self.some.partition.clone(),
            least_percent: self.at_least,
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if (0.0..=100.0).contains(&part) => Ok(part),
        _ => Err("a number from 0 to 100".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
struct Replay {
    /// Up to where, not included: as --from.
    #[arg(long, value_name = "POSITION")]
    until: Position,
    /// From where: earliest, latest, latest-N, an offset of every partition, or a time (RFC 3339).
    #[arg(long, value_name = "POSITION")]
    from: Position,
    #[command(flatten)]
    there: There,
}

#[derive(Debug, clap::Args)]
struct Backfill {
    /// From where: earliest, an offset of every partition, or a time (RFC 3339).
    #[arg(long, value_name = "POSITION", default_value = "earliest")]
    from: Position,
    #[command(flatten)]
    there: There,
}

/// Where a stretch goes, and how.
#[derive(Debug, clap::Args)]
struct There {
    #[command(flatten)]
    reading: Reading,
    /// Where to: s3:// or file://, outside of output.url and empty at first.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Only this partition; may be given again.
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// A batch ends at this many bytes of records' values (or at flush.records, or flush.objects); by
    /// default flush.bytes.
    #[arg(long, value_name = "BYTES")]
    batch_bytes: Option<Bytes>,
}

#[derive(Debug, clap::Args)]
struct Compact {
    #[command(flatten)]
    reading: Reading,
    /// Only paths whose newest object is at least so old.
    #[arg(long, value_name = "TIME", default_value = "2h")]
    older_than: Period,
    /// Bytes of an object that is made, at most; objects above half of it stay as they are.
    #[arg(long, value_name = "BYTES", default_value = "64MiB")]
    target: Bytes,
    /// Only paths that begin so.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    path: String,
    /// Do it: the objects that were put together are removed.
    #[arg(long)]
    apply: bool,
}

#[derive(Debug, Subcommand)]
enum Dlq {
    /// Say why, how many, and where the first of each kind was.
    List {
        #[command(flatten)]
        reading: Reading,
        /// Only of objects that were written in this last time, such as 24h.
        #[arg(long, value_name = "DURATION")]
        since: Option<Period>,
    },
    /// Run them through the configuration again, into another place; exit status 1 where some fail
    /// again.
    Replay {
        #[command(flatten)]
        reading: Reading,
        /// Where to: s3:// or file://, outside of output.url and empty at first.
        #[arg(long, value_name = "URL")]
        to: String,
        /// Only of objects that were written in this last time, such as 24h.
        #[arg(long, value_name = "DURATION")]
        since: Option<Period>,
    },
}

/// The command line; that of a function's `bootstrap`, which Lambda starts without any, is made up.
fn arguments() -> Args {
    let mut given = std::env::args_os();
    let name = given.next().map(PathBuf::from).unwrap_or_default();
    if name.file_name().is_none_or(|name| name != "bootstrap") || given.next().is_some() {
        return Args::parse();
    }
    let beside = environment("LAMBDA_TASK_ROOT").unwrap_or_else(|| ".".into());
    let config = environment("HEADWATER_CONFIG")
        .map_or_else(|| PathBuf::from(beside).join("loader.toml"), PathBuf::from);
    Args {
        log: tracing::Level::INFO,
        command: Command::Lambda(Config { config }),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "Lambda tells a function where its runtime and its files are by the environment alone"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn main() -> ExitCode {
    let args = arguments();
    tracing_subscriber::fmt()
        .with_max_level(args.log)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let failure = args.command.failure();
    match start(args.command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            failure.status(&error)
        }
    }
}

/// What it means that a command could not be done.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// That it failed.
    Failed,
    /// That there is no answer to what was asked.
    NoAnswer,
    /// That the configuration is wrong, which is the answer; or that it could not be looked at.
    WrongOrUnread,
}

impl Failure {
    /// The exit status. 2, as clap's own for wrong arguments, where 1 is the answer to what was asked:
    /// "no" is not "could not look".
    fn status(self, error: &anyhow::Error) -> ExitCode {
        let unread = || {
            matches!(
                error.downcast_ref::<ConfigError>(),
                Some(ConfigError::Unreadable { .. })
            )
        };
        match self {
            Self::NoAnswer => ExitCode::from(2),
            Self::WrongOrUnread if unread() => ExitCode::from(2),
            Self::Failed | Self::WrongOrUnread => ExitCode::FAILURE,
        }
    }
}

impl Command {
    fn failure(&self) -> Failure {
        match self {
            Self::Verify(_)
            | Self::Audit(_)
            | Self::Plan(_)
            | Self::Test(_)
            | Self::Topics(Topics {
                verb: cli::topics::Verb::Check,
                ..
            })
            | Self::Dlq(Dlq::Replay { .. }) => Failure::NoAnswer,
            Self::Check(_) => Failure::WrongOrUnread,
            _ => Failure::Failed,
        }
    }
}

fn start(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match command {
        Command::Check(config) => cli::check::check(&config.config).map(|()| ExitCode::SUCCESS),
        Command::Ddl(config) => {
            let plan = cli::plan_from(&config.config)?;
            let file: ConfigFile = headwater_msk::config_file::read(&config.config)?;
            cli::ddl::ddl(&plan, &file.output.column).map(|()| ExitCode::SUCCESS)
        }
        Command::Test(test) => {
            let plan = cli::plan_from(&test.config.config)?;
            let now = test.now.parse::<jiff::Timestamp>();
            let now = now.with_context(|| format!("--now {:?} is no RFC 3339 time", test.now))?;
            let clock_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
            let records = std::io::stdin().lock();
            cli::test::test(&plan, records, clock_ms, test.expect.as_deref())
        }
        Command::Plan(dry_run) => {
            let plan = cli::plan_from(&dry_run.reading.config.config)?;
            cli::dry_run::plan(&plan, &dry_run.sample(), dry_run.reading.json)
        }
        Command::Columns(asked) => {
            let config = &asked.reading.config.config;
            columns::columns(config, &asked.wanted(), asked.reading.json)
        }
        Command::Compact(compact) => runtime.block_on(put_together(compact)),
        Command::Replay(Replay { from, until, there }) => {
            runtime.block_on(stretch(there, from, Until::Position(until)))
        }
        Command::Backfill(Backfill { from, there }) => {
            runtime.block_on(stretch(there, from, Until::Live))
        }
        Command::Dlq(dlq) => runtime.block_on(dead_letters(dlq)),
        Command::Run(config) => {
            let plan = cli::plan_from(&config.config)?;
            let ran = runtime.block_on(supervise::run(plan));
            runtime.shutdown_background();
            ran.map(|()| ExitCode::SUCCESS)
        }
        Command::Lambda(config) => {
            let plan = cli::plan_from(&config.config)?;
            let api = environment("AWS_LAMBDA_RUNTIME_API").context(
                "AWS_LAMBDA_RUNTIME_API is not set: this runs in AWS Lambda, where it is",
            )?;
            runtime.block_on(lambda::run(plan, &api))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Audit(audit) => runtime.block_on(look_at_streams(audit)),
        Command::Verify(Verify { reading, expires }) => {
            let plan = cli::plan_from(&reading.config.config)?;
            let expires_ms = expires.map(|age| age.as_millis());
            runtime.block_on(cli::verify::verify(&plan, expires_ms, reading.json))
        }
        Command::Topics(Topics { verb, reading }) => {
            let plan = cli::plan_from(&reading.config.config)?;
            runtime.block_on(cli::topics::topics(&plan, verb, reading.json))
        }
    }
}

async fn look_at_streams(audit: Audit) -> anyhow::Result<ExitCode> {
    let plan = cli::plan_from(&audit.reading.config.config)?;
    let choice = Choice {
        device: audit.device,
        by: audit.by,
        gaps: audit.gaps,
        json: audit.reading.json,
    };
    cli::audit::audit(&plan, &choice).await
}

async fn put_together(compact: Compact) -> anyhow::Result<ExitCode> {
    let plan = cli::plan_from(&compact.reading.config.config)?;
    let wanted = Wanted {
        older_than_ms: compact.older_than.as_millis(),
        target: compact.target.0,
        path: compact.path,
        apply: compact.apply,
    };
    let store = cli::open(&plan.output).await;
    cli::compact::compact(&plan, store, &wanted, compact.reading.json).await
}

async fn stretch(there: There, from: Position, until: Until) -> anyhow::Result<ExitCode> {
    let config = &there.reading.config.config;
    let plan = cli::plan_with(config, |file| file.accounts = AccountsFile::default())?;
    let to = elsewhere(config, there.to).await?;
    let live = cli::open(&plan.output).await;
    let mut partitions = there.partition;
    partitions.sort_unstable();
    partitions.dedup();
    let batch_bytes = there.batch_bytes.map_or(plan.flush.bytes as u64, |b| b.0);
    let stretch = Stretch {
        from,
        until,
        partitions,
        batch_bytes,
    };
    cli::replay::run(&plan, &live, to, &stretch, there.reading.json).await
}

/// Another place than the configuration's output, opened.
async fn elsewhere(config: &Path, to: String) -> anyhow::Result<Store> {
    let mut file: ConfigFile = headwater_msk::config_file::read(config)?;
    cli::dlq::apart(&file.output.url, &to)?;
    file.output.url = to;
    let output = output::parse(&file);
    let output = output.map_err(|problems| anyhow::anyhow!(problems.join("\n")))?;
    Ok(cli::open(&output).await)
}

async fn dead_letters(dlq: Dlq) -> anyhow::Result<ExitCode> {
    match dlq {
        Dlq::List { reading, since } => {
            let plan = cli::plan_from(&reading.config.config)?;
            let store = cli::open(&plan.output).await;
            cli::dlq::list(&plan, &store, since_ms(since), reading.json).await
        }
        Dlq::Replay { reading, to, since } => {
            let config = &reading.config.config;
            let plan = cli::plan_with(config, |file| file.accounts = AccountsFile::default())?;
            let to = elsewhere(config, to).await?;
            let store = cli::open(&plan.output).await;
            cli::dlq::replay(&plan, &store, &to, since_ms(since), reading.json).await
        }
    }
}

/// When a last time began, Unix milliseconds; 0 where none is given.
fn since_ms(since: Option<Period>) -> u64 {
    since.map_or(0, |since| {
        clock::now().wall_ms.saturating_sub(since.as_millis())
    })
}
