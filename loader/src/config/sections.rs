//! What is wrong with each section of the configuration by itself: bounds, names, keys that exclude one
//! another. Every problem is a line that names its key.

use headwater_msk::{Bytes, Period};

use crate::books::DEVICES_MAX;
use crate::config::defaults;
use crate::config::file::{ConfigFile, DynamoFile, EmfFile, Flush, Group, Protocol};

/// What is wrong with each section by itself.
pub(super) fn problems(file: &ConfigFile) -> Vec<String> {
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
