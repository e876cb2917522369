//! headwater-agent: arguments, log, command, exit code.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use headwater_agent::cli;
use tracing::level_filters::LevelFilter;

#[cfg(all(without_unwind_tables, panic = "unwind"))]
compile_error!(
    "build.rs takes the unwind tables away, so a panic must abort: see the profile release-small"
);

/// Follows log files and sensors, and delivers them to Kafka, every byte accounted for.
#[derive(Debug, Parser)]
#[command(name = "headwater-agent", version)]
struct Arguments {
    /// How much to log, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = Level::Info)]
    log: Level,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow, sample and deliver until told to stop (SIGTERM, SIGINT).
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check a configuration and say which files it follows, and why others not.
    Check {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Write JSON.
        #[arg(long)]
        json: bool,
        /// Say of this file which source follows it, and how far; or why not.
        #[arg(long, value_name = "PATH", conflicts_with = "json")]
        explain: Option<PathBuf>,
        /// Go the way to the topic as well (clock, credentials, names, TLS, authentication, rights),
        /// and say at which step it ends. Writes one record, a notice that holds nothing.
        #[arg(long, conflicts_with_all = ["json", "explain"])]
        connect: bool,
    },
    /// Write down how long the followed files are: early in a boot, before programs write to them, so that the
    /// agent knows after a power cut what of them is new.
    BootSizes {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Also later than two minutes after the system's start: what programs have written by then may be lost.
        #[arg(long)]
        late: bool,
    },
    /// Print a token for MSK's IAM, from the configured credentials or those of the AWS environment.
    Token {
        /// The cluster's region; the configuration's by default.
        #[arg(long)]
        region: Option<String>,
        /// A configuration whose credentials are used.
        #[arg(long)]
        config: Option<PathBuf>,
        /// When it is signed, such as 2026-11-24T08:15:00Z; now by default.
        #[arg(long, value_name = "RFC3339")]
        at: Option<jiff::Timestamp>,
        /// Show what it says, not the token.
        #[arg(long)]
        decode: bool,
    },
    /// Show what a source makes of the sample on standard input: lines for a file; for a journal,
    /// what `journalctl -o json` prints.
    Test {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// The source's id.
        #[arg(long)]
        source: String,
    },
    /// Say how it goes with the running agent. Exit status 1 where its pipeline is stuck.
    Status {
        /// The configuration file that it runs on.
        #[arg(long)]
        config: PathBuf,
        /// Write JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look into the spool: what waits there for the broker. An agent may run on it, or none.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Show records as they pass through the running agent, as lines of JSON.
    Tap {
        /// The configuration file that it runs on.
        #[arg(long)]
        config: PathBuf,
        /// Only records of this source.
        #[arg(long)]
        source: Option<String>,
        /// End after so many lines.
        #[arg(long)]
        count: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// Show what waits, by lane and stream.
    List {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Write JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print every record that waits, as lines of JSON. Exit status 1 where a batch cannot be read.
    Export {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Only records of this source.
        #[arg(long)]
        source: Option<String>,
        /// Read this damaged database instead, page by page: what `spool.damaged` holds after a salvage.
        #[arg(long, value_name = "FILE")]
        damaged: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.log);
    let ended = match arguments.command {
        Command::Run { config } => cli::run::run(&config),
        Command::Check {
            config,
            json,
            explain,
            connect,
        } => match explain {
            Some(path) => cli::explain::run(&config, &path),
            None => cli::check::run(&config, json, connect),
        },
        Command::BootSizes { config, late } => cli::boot_sizes::run(&config, late),
        Command::Test { config, source } => cli::test::run(&config, &source),
        Command::Status { config, json } => cli::status::run(&config, json),
        Command::Spool(SpoolCommand::List { config, json }) => cli::spool::list(&config, json),
        Command::Spool(SpoolCommand::Export {
            config,
            source,
            damaged,
        }) => cli::spool::export(&config, source.as_deref(), damaged.as_deref()),
        Command::Tap {
            config,
            source,
            count,
        } => cli::tap::run(&config, source.as_deref(), count),
        Command::Token {
            region,
            config,
            at,
            decode,
        } => cli::token::run(cli::token::Request {
            config: config.as_deref(),
            region: region.as_deref(),
            at,
            decode,
        }),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            // Each error tells its cause itself.
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(level: Level) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // The journal writes the time itself; a time of ours would stand there twice.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    fn pages(folder: &Path) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let page = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        };
        entries.map(page).collect()
    }

    /// `HEADWATER_WRITE_MAN=1 cargo test -p headwater-agent --bins` writes them anew.
    #[test]
    fn the_man_pages_say_what_the_arguments_are() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man");
        let made = tempfile::tempdir().unwrap();
        let command = Arguments::command().disable_help_subcommand(true);
        clap_mangen::generate_to(command, made.path()).unwrap();
        let made = pages(made.path());
        if std::env::var_os("HEADWATER_WRITE_MAN").is_some() {
            std::fs::create_dir_all(&kept).unwrap();
            for (name, page) in &made {
                std::fs::write(kept.join(name), page).unwrap();
            }
        }
        assert!(made.len() > 8, "one of each command");
        assert!(
            made == pages(&kept),
            "docs/man is of other arguments: write it anew, as said above"
        );
    }
}
