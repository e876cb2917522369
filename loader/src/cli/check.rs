//! `headwater-loader check`: is the configuration right, and what does it mean, defaults included?

use std::path::Path;

use anyhow::Context;
use headwater_record::steps::OnError;

use crate::books::{AccountsFile, Daily};
use crate::cli::{plan_from, print};
use crate::config::ConfigFile;
use crate::items::{Mode, Table};
use crate::partition::Layout;
use crate::transform::StepFile;

/// What an object for each record costs.
const PRICE: &str = "# An object for each record: a million records are a million PUTs, 5.00 dollars at 0.005 for 1000 (an example:\n\
                     # S3 Standard in us-east-1, aws.amazon.com/s3/pricing); `plan --price-put` reckons with yours, on real records.\n";

/// What is said beside the data, and what it costs.
fn said(accounts: AccountsFile) -> String {
    let mut text = String::new();
    if accounts.hourly_markers {
        text.push_str(
            "# Hours are marked: a PUT for each partition and hour, and one more for the state where nothing came.\n",
        );
    }
    match accounts.daily {
        None => {}
        Some(Daily::Device) => text.push_str(
            "# Accounts of devices: a PUT for each device, partition and day (10,000 devices: 0.05 dollars a day at 0.005\n\
             # for 1000, an example: S3 Standard in us-east-1); daily = \"partition\" makes one for each partition and day.\n",
        ),
        Some(Daily::Partition) => {
            text.push_str("# Accounts of devices: a PUT for each partition and day.\n");
        }
    }
    text
}

/// What becomes of a text that a step cannot parse: a line for each that passes it on or drops it.
fn unparsed(steps: &[StepFile]) -> String {
    let line = |(at, step): (usize, &StepFile)| {
        let StepFile::Parse(parse) = step else {
            return None;
        };
        let becomes = match parse.on_error.unwrap_or_default() {
            OnError::Mark => "goes on as it is, with parse_error",
            OnError::Ignore => "goes on as it is",
            OnError::Drop => "is dropped with its row",
            OnError::DeadLetter => return None,
        };
        Some(format!(
            "# transform {} (parse): a text that is not of its format {becomes} (on_error = \"dead_letter\" keeps it apart);\n\
             # records_total{{outcome=\"unparsed\"}} counts them.\n",
            at + 1
        ))
    };
    steps.iter().enumerate().filter_map(line).collect()
}

/// A line about a table of DynamoDB.
fn about(table: &Table) -> String {
    let file = table.file();
    let does = match file.mode {
        Mode::Latest => {
            "keeps the latest item of each key: a conditional put for each key of a batch"
        }
        Mode::Append => "gets an item for each row: 25 in a request",
    };
    format!(
        "# Table {} {does}. `run` looks at its key before the first record.\n",
        file.name
    )
}

/// Checks a configuration and prints it as it will run.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let plan = plan_from(path)?;
    let file: ConfigFile = headwater_msk::config_file::read(path)?;
    let effective = toml::to_string(&file).context("cannot print the configuration")?;
    let memory = plan.memory;
    let bytes = headwater_msk::Bytes;
    let layout = match file.output.layout {
        Layout::Batch => "",
        Layout::Record => PRICE,
    };
    let more = |n: u64, what: &str| match n {
        0 => String::new(),
        n => format!(", {what} {}", bytes(n)),
    };
    let tables_memory = more(memory.tables, "tables");
    let items_memory = more(memory.items, "requests to DynamoDB");
    let parquet_memory = match memory.makers {
        0 => String::new(),
        n => format!(
            ", Parquet {} ({n} at once, row groups of {})",
            bytes(memory.parquet),
            bytes(memory.row_group)
        ),
    };
    let said = said(file.accounts) + &unparsed(&file.transform);
    let tables: String = plan.pipeline.items().iter().map(about).collect();
    print(&format!(
        "# Effective configuration, defaults filled in.\n\
         # Pipeline {}.\n\
         # Memory: {} in all. Batches {}, records fetched and not yet taken in {}, librdkafka's queue {}\n\
         # (small records take four times that there){tables_memory}{items_memory}{parquet_memory}, the rest for the program.\n\
         # Ledgers, open windows and accounts come out of what batches have, up to three quarters of it: some 450 bytes a\n\
         # stream. Beyond that nothing bounds their sum; limits.ledger and the steps' `memory` bound each partition's.\n{layout}{said}{tables}{effective}",
        plan.pipeline.hash(),
        bytes(memory.total),
        bytes(memory.batches),
        bytes(memory.hand_over),
        bytes(memory.fetch),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_becomes_of_a_text_that_cannot_be_parsed() {
        let said = |on_error: &str| {
            let text = format!(
                "[[transform]]\nstep='remove'\nfields=['a']\n[[transform]]\nstep='parse'\nformat='json'\n{on_error}"
            );
            #[derive(serde::Deserialize)]
            struct Steps {
                transform: Vec<StepFile>,
            }
            let steps: Steps = toml::from_str(&text).unwrap();
            unparsed(&steps.transform)
        };
        for (on_error, word) in [
            ("", "with parse_error"),
            ("on_error='ignore'", "goes on as it is (on_error"),
            ("on_error='drop'", "is dropped"),
        ] {
            let said = said(on_error);
            assert!(
                said.starts_with("# transform 2 (parse): ") && said.contains(word),
                "{said}"
            );
        }
        assert_eq!(said("on_error='dead_letter'"), "");
    }
}
