//! `headwater-loader topics create|describe|check`: the topic, as planned in `[topic]` and as it is.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use headwater_msk::Cluster;
use headwater_msk::cluster::Visitor;
use headwater_msk::topic::admin::{self, TopicError, create, describe};
use headwater_msk::topic::{Finding, Severity, TopicState, check};
use rdkafka::admin::AdminClient;
use serde::Serialize;

use crate::cli::print;
use crate::config::Plan;
use crate::supervise::host_name;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    /// Make the topic as [topic] plans it; refused where it is there already.
    Create,
    /// Say what it is.
    Describe,
    /// Say what of it costs data; exit status 1 where something does, or where there is no topic.
    Check,
}

/// What `describe` and `check` print as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    topic: &'a TopicState,
    findings: &'a [Finding],
    sound: bool,
}

/// Runs one of the verbs on the topic of a plan.
///
/// # Errors
/// No connection, no permission, or (for `create`) a topic that is there already. That there is none is an
/// answer to `check`.
pub async fn topics(plan: &Plan, verb: Verb, json: bool) -> anyhow::Result<ExitCode> {
    let admin = connect(plan)?;
    let name = &plan.kafka.topic;
    if verb == Verb::Create {
        create(&admin, name, &plan.topic).await?;
        tracing::info!(topic = name, "created");
    }
    let topic = match verb {
        Verb::Create => when_it_is_seen(&admin, name).await?,
        Verb::Describe => describe(&admin, name).await?,
        Verb::Check => match describe(&admin, name).await {
            Err(error @ TopicError::Missing(_)) => {
                tracing::error!("{error}");
                return Ok(ExitCode::FAILURE);
            }
            described => described?,
        },
    };
    let findings = check(&plan.topic, &topic);
    let sound = findings.iter().all(|one| one.severity != Severity::Wrong);
    if json {
        let report = Report {
            topic: &topic,
            findings: &findings,
            sound,
        };
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        let mut text = String::new();
        if verb != Verb::Check {
            text.push_str(&described(&topic));
        }
        if verb != Verb::Describe {
            text.push_str(&judged(&topic, &findings));
        }
        print(&text)?;
    }
    Ok(if verb == Verb::Check && !sound {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Describes a topic that was made a moment ago: not every broker knows of it at once, nor does each
/// partition have its leader. After 20 s it is described as it is.
async fn when_it_is_seen(
    admin: &AdminClient<Visitor>,
    name: &str,
) -> Result<TopicState, TopicError> {
    for _ in 0..100 {
        match describe(admin, name).await {
            Ok(topic) if topic.partitions.iter().all(|p| p.leader.is_some()) => return Ok(topic),
            Ok(_) | Err(TopicError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    describe(admin, name).await
}

fn connect(plan: &Plan) -> anyhow::Result<AdminClient<Visitor>> {
    let cluster = Cluster::open(&plan.kafka, &plan.credentials, &host_name())?;
    cluster.wait_for_token().map_err(anyhow::Error::msg)?;
    Ok(admin::connect(&cluster, "headwater-loader")?)
}

fn described(topic: &TopicState) -> String {
    let mut text = format!(
        "{}: {} partitions on {} brokers\n",
        topic.name,
        topic.partitions.len(),
        topic.brokers
    );
    let mut write = || -> std::fmt::Result {
        for partition in &topic.partitions {
            let leader = partition
                .leader
                .map_or("none".to_owned(), |id| id.to_string());
            writeln!(
                text,
                "  partition {}: leader {leader}, copies on {:?}, in sync {:?}",
                partition.id, partition.replicas, partition.in_sync
            )?;
        }
        for (key, value) in &topic.configs {
            writeln!(text, "  {key} = {value}")?;
        }
        Ok(())
    };
    let written = write();
    debug_assert!(written.is_ok(), "a String takes every byte");
    text
}

fn judged(topic: &TopicState, findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        for finding in findings {
            let mark = match finding.severity {
                Severity::Wrong => "WRONG",
                Severity::Risk => "risk",
            };
            writeln!(text, "{mark}: {} is {}", finding.about, finding.found)?;
            writeln!(text, "    {}", finding.why)?;
            writeln!(text, "    change: {}", finding.change)?;
        }
        let wrong = findings.iter().filter(|f| f.severity == Severity::Wrong);
        let (wrong, all) = (wrong.count(), findings.len());
        match (wrong, all) {
            (_, 0) => writeln!(text, "topic {} is as headwater needs it", topic.name),
            (0, _) => writeln!(text, "topic {}: nothing wrong, {all} risks", topic.name),
            _ => writeln!(
                text,
                "topic {}: {wrong} wrong, {} risks",
                topic.name,
                all - wrong
            ),
        }
    };
    let written = write();
    debug_assert!(written.is_ok(), "a String takes every byte");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_with_what_to_do() {
        let topic = TopicState {
            name: "logs".into(),
            ..TopicState::default()
        };
        let finding = Finding {
            severity: Severity::Wrong,
            about: "retention.ms",
            found: "1".into(),
            why: "why".into(),
            change: "do".into(),
        };
        let text = judged(&topic, &[finding]);
        assert!(text.starts_with("WRONG: retention.ms is 1\n    why\n    change: do\n"));
        assert!(text.ends_with("topic logs: 1 wrong, 0 risks\n"));
        assert_eq!(judged(&topic, &[]), "topic logs is as headwater needs it\n");
    }
}
