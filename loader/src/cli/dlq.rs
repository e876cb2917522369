//! `headwater-loader dlq`: what could not be made rows, and another try.
//!
//! `list` reads the dead letters and says why, how many, and where the first of each kind was.
//! `replay` runs them through the configuration as it is now (mended, one hopes) and writes what
//! comes of them to another place, under names that are a function of the dead letters' own and of that
//! configuration: to run it twice writes nothing twice, and a place is of one configuration ([`place`]).
//! The dead letters themselves stay as they are.

mod letter;
mod place;
mod replay;

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

pub(super) use letter::parse;
pub(super) use place::place_key;
pub use replay::{apart, replay};

use crate::cli::dlq::letter::each_letter;
use crate::cli::print;
use crate::config::Plan;
use crate::name::ObjectName;
use crate::route::DEAD_LETTERS;
use crate::store::{Reading, Store};

/// Dead letters of one kind.
#[derive(Debug, Serialize)]
struct Reason {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    count: u64,
    first_partition: i32,
    first_offset: u64,
    first_object: String,
}

/// Keys of this topic's dead letters that were written at `since_ms` or later, in order.
async fn keys(
    store: &Store,
    topic: &str,
    since_ms: u64,
) -> anyhow::Result<Vec<(String, ObjectName)>> {
    let mut keys = Vec::new();
    store
        .list(&format!("{DEAD_LETTERS}/"), |listed| {
            if listed.modified_ms < since_ms {
                return;
            }
            let name = ObjectName::parse(&listed.key).filter(|name| name.topic == topic);
            keys.extend(name.map(|name| (listed.key, name)));
        })
        .await?;
    keys.sort();
    Ok(keys)
}

/// An object that is there to be read.
async fn open(store: &Store, key: &str) -> anyhow::Result<Reading> {
    let object = store.open(key).await?;
    object.with_context(|| format!("{key} is gone"))
}

/// Dead letters by kind and step.
type Reasons = BTreeMap<(String, Option<String>), Reason>;

/// Counts those of an object.
fn count(key: &str, reader: impl Read, mut reasons: Reasons) -> anyhow::Result<Reasons> {
    each_letter(key, reader, |letter| {
        let kind = (kind(&letter.reason), letter.step.clone());
        let reason = reasons
            .entry(kind)
            .or_insert_with_key(|(reason, step)| Reason {
                reason: reason.clone(),
                step: step.clone(),
                count: 0,
                first_partition: letter.partition,
                first_offset: letter.offset,
                first_object: key.to_owned(),
            });
        reason.count += 1;
        Ok(())
    })?;
    Ok(reasons)
}

/// Prints why, how many, and where the first of each kind was, of objects that were written at
/// `since_ms` or later.
///
/// # Errors
/// The output cannot be read.
pub async fn list(
    plan: &Plan,
    store: &Store,
    since_ms: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut reasons = Reasons::new();
    for (key, _) in keys(store, &plan.kafka.topic, since_ms).await? {
        let object = open(store, &key).await?;
        let counted = object.through(move |pieces| count(&key, pieces, reasons));
        reasons = counted.await??;
    }
    let mut reasons: Vec<Reason> = reasons.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&reasons)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for reason in &reasons {
        let step = reason
            .step
            .as_deref()
            .map_or(String::new(), |step| format!(", in step {step}"));
        text += &format!(
            "{} x {}{step}; first at partition {}, offset {}, in {}\n",
            reason.count,
            reason.reason,
            reason.first_partition,
            reason.first_offset,
            reason.first_object
        );
    }
    let total: u64 = reasons.iter().map(|reason| reason.count).sum();
    print(&format!("{text}dead letters: {total}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A reason without the place in the text, which differs from record to record.
pub(super) fn kind(reason: &str) -> String {
    reason
        .split(" at line ")
        .next()
        .unwrap_or(reason)
        .to_owned()
}

#[cfg(test)]
mod tests;
