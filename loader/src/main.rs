//! The command line of headwater-loader.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use headwater_loader::config::ConfigFile;
use headwater_loader::{cli, supervise};

/// Takes records from Kafka, transforms them and writes them to S3, exactly once.
#[derive(Debug, Parser)]
#[command(name = "headwater-loader", version)]
struct Args {
    /// How much is said on standard error: error, warn, info or debug.
    #[arg(long, global = true, default_value = "info")]
    log: tracing::Level,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load until told to stop (SIGTERM: what is open is written first).
    Run(Config),
    /// Check the configuration and print it with its defaults.
    Check(Config),
    /// Print an Athena table over what is written.
    Ddl(Config),
    /// Say what has come of every stream; exit status 1 where a gap is unexplained.
    Audit(Reading),
    /// Say whether the objects' names tile every partition; exit status 1 where they do not.
    Verify(Reading),
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

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_max_level(args.log)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match start(args.command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
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
        Command::Run(config) => {
            let plan = cli::plan_from(&config.config)?;
            let ran = runtime.block_on(supervise::run(plan));
            runtime.shutdown_background();
            ran.map(|()| ExitCode::SUCCESS)
        }
        Command::Audit(reading) => {
            let plan = cli::plan_from(&reading.config.config)?;
            runtime.block_on(cli::audit::audit(&plan, reading.json))
        }
        Command::Verify(reading) => {
            let plan = cli::plan_from(&reading.config.config)?;
            runtime.block_on(cli::verify::verify(&plan, reading.json))
        }
        Command::Topics(Topics { verb, reading }) => {
            let plan = cli::plan_from(&reading.config.config)?;
            runtime.block_on(cli::topics::topics(&plan, verb, reading.json))
        }
    }
}
