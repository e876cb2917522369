//! Partitions are taken up only once it is known whether their topic may be loaded: one that is compacted is
//! refused. The loader makes a begun batch again from the same records after a crash, and compaction removes some of
//! them meanwhile: the same names would stand for other content.
//!
//! The first partition that the group gives is what starts the question: then there is such a topic, and its brokers
//! answer. Nothing of it is stored before the answer, and it is asked once in the life of a process. Who may not
//! read the topic's configuration, or gets no answer, loads all the same: a loader's rights are as small as they can
//! be, and the promise does not hang on this look.

use std::sync::Arc;
use std::time::Duration;

use headwater_msk::Cluster;
use headwater_msk::topic::admin::{cleanup_policy, connect};
use headwater_msk::topic::{compacts, set_config};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::consume::Assigned;

/// How long a broker may take for one answer: what the group gave waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// A broker that hangs costs one of them; the next one asked is another as a rule.
const ASKED: usize = 3;

/// What is known of a topic's `cleanup.policy`, over all memberships of a process.
#[derive(Debug)]
pub(super) struct Admission {
    cluster: Arc<Cluster>,
    asking: Option<JoinHandle<Told>>,
    is_open: bool,
}

/// What a cluster tells of a topic's `cleanup.policy`.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It.
    Policy(String),
    /// That this principal may not know.
    Denied,
    /// Nothing, and why.
    Nothing(String),
}

impl Admission {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            asking: None,
            is_open: false,
        }
    }

    /// Returns once it is known that the topic may be loaded, or that nobody says. May be dropped and called again.
    ///
    /// # Errors
    /// It is compacted.
    async fn open(&mut self) -> anyhow::Result<()> {
        if self.is_open {
            return Ok(());
        }
        let asking =
            (self.asking).get_or_insert_with(|| tokio::spawn(ask(Arc::clone(&self.cluster))));
        let told = asking
            .await
            .unwrap_or_else(|error| Told::Nothing(error.to_string()));
        self.asking = None;
        judge(self.cluster.topic(), told)?;
        self.is_open = true;
        Ok(())
    }
}

/// What the group gives in one membership.
#[derive(Debug)]
pub(super) struct Door<'a> {
    admission: &'a mut Admission,
    assigned: Receiver<Assigned>,
    /// What waits for the answer; all behind it waits in the channel.
    first: Option<Assigned>,
}

impl<'a> Door<'a> {
    pub(super) fn new(admission: &'a mut Admission, assigned: Receiver<Assigned>) -> Self {
        Self {
            admission,
            assigned,
            first: None,
        }
    }

    /// The next partition to take up; none where nobody gives any more. May be dropped and called again.
    ///
    /// # Errors
    /// See [`Admission::open`].
    pub(super) async fn next(&mut self) -> Option<anyhow::Result<Assigned>> {
        if self.first.is_none() {
            self.first = Some(self.assigned.recv().await?);
        }
        match self.admission.open().await {
            Ok(()) => self.first.take().map(Ok),
            Err(refused) => Some(Err(refused)),
        }
    }

    /// What was given and not taken up, one by one.
    pub(super) fn left(&mut self) -> Option<Assigned> {
        (self.first.take()).or_else(|| self.assigned.try_recv().ok())
    }
}

async fn ask(cluster: Arc<Cluster>) -> Told {
    let mut why = String::new();
    for _ in 0..ASKED {
        let admin = match connect(&cluster, "headwater-loader") {
            Ok(admin) => admin,
            Err(error) => return Told::Nothing(error.to_string()),
        };
        match cleanup_policy(&admin, cluster.topic(), PATIENCE).await {
            Ok(Some(policy)) => return Told::Policy(policy),
            Ok(None) => return Told::Denied,
            Err(error) => why = error.to_string(),
        }
    }
    Told::Nothing(why)
}

fn judge(topic: &str, told: Told) -> anyhow::Result<()> {
    let why = match told {
        Told::Policy(policy) if compacts(&policy) => anyhow::bail!(
            "topic {topic} is compacted (cleanup.policy is {policy}), and such a topic is not loaded: compaction \
             removes records, and a batch that a crash cut short would be made again with other content. No record \
             was stored. Change it ({}), or load a topic with cleanup.policy=delete",
            set_config(topic, "cleanup.policy", "delete")
        ),
        Told::Policy(_) => return Ok(()),
        Told::Denied => {
            "it may not be read. Allow kafka-cluster:DescribeTopicDynamicConfiguration on the topic (an ACL: \
             DescribeConfigs)"
        }
        .to_owned(),
        Told::Nothing(why) => why,
    };
    tracing::warn!(
        topic,
        "it is not known whether the topic is compacted, which this loader would refuse; going on as if it were \
         not. Its cleanup.policy: {why}; or look once with `topics check`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compacted_topic_is_refused_and_what_is_not_known_is_let_pass() {
        let refused = |policy: &str| {
            let told = judge("logs", Told::Policy(policy.to_owned()));
            told.err().map(|error| error.to_string())
        };
        assert_eq!(refused("delete"), None);
        assert_eq!(refused(""), None);
        for policy in ["compact", "compact,delete", "delete, compact"] {
            let error = refused(policy).expect("it is refused");
            assert!(
                error.contains(&format!("cleanup.policy is {policy})")),
                "{error}"
            );
            assert!(
                error.contains("--topic logs --add-config cleanup.policy=delete"),
                "{error}"
            );
        }
        assert!(judge("logs", Told::Denied).is_ok());
        assert!(judge("logs", Told::Nothing("no answer".to_owned())).is_ok());
    }
}
