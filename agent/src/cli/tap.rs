//! `headwater-agent tap`: records as they pass through the running agent.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::load_plan;
use crate::admin::client;
use crate::config::Plan;

/// Prints each record that passes, as a line of JSON, until `count` lines are there, the agent ends,
/// or the reader goes. `source`: only records of this one.
///
/// # Errors
/// The configuration is refused, it has no such source, no agent answers, or the output cannot be
/// written.
pub fn run(config: &Path, source: Option<&str>, count: Option<u64>) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    if let Some(source) = source {
        let ids = ids(&plan);
        if !ids.contains(&source) {
            bail!(
                "there is no source {source:?}; there are: {}",
                ids.join(", ")
            );
        }
    }
    let path = source.map_or("/tap".to_owned(), |source| {
        format!("/tap?source={}", escape(source))
    });
    let (mut out, mut left, mut failed) = (io::stdout().lock(), count.unwrap_or(u64::MAX), None);
    let runtime = super::runtime()?;
    let take = |piece: &[u8]| {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if left == 0 {
                return false;
            }
            left -= 1;
            if let Err(error) = out.write_all(line) {
                failed = Some(error);
                return false;
            }
        }
        let flushed = out.flush();
        failed = flushed.err();
        failed.is_none() && left > 0
    };
    runtime.block_on(client::follow(&plan.admin_listen, &path, take))?;
    match failed {
        // Whoever read has seen enough.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The sources of the configuration.
fn ids(plan: &Plan) -> Vec<&str> {
    let files = plan.files.iter().map(|source| &source.id);
    let journals = plan.journals.iter().map(|source| &source.id);
    let sensors = plan.sensors.iter().map(|source| &source.id);
    let ids = files.chain(journals).chain(sensors);
    ids.map(|id| id.as_str()).collect()
}

/// An id as a query has it: everything but letters, digits and `-._~` as `%XX` (RFC 3986, 2.3).
fn escape(id: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = id.bytes().map(|byte| {
        if unreserved(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    #[test]
    fn every_kind_of_source_can_be_watched() {
        let file = headwater_msk::config_file::parse(
            "device = \"pi-7\"\n[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n\
             [[sensor]]\nid = \"s\"\npaths = [\"/s\"]\n[[file]]\nid = \"f\"\npaths = [\"/f\"]\n\
             [[journal]]\nid = \"j\"\n",
        );
        let plan = Plan::new(file.unwrap(), &Host::default()).unwrap();
        assert_eq!(ids(&plan), ["f", "j", "s"]);
    }

    #[test]
    fn ids_are_escaped() {
        assert_eq!(escape("app-1.log"), "app-1.log");
        assert_eq!(escape("a&b=c%"), "a%26b%3Dc%25");
    }
}
