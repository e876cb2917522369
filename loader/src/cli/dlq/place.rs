//! What a place of replayed dead letters says about itself: by which pipeline they were made.
//!
//! ```text
//! _headwater/dlq/<topic>.json     written first, never changed
//! ```
//!
//! Names of a replay count the paths that its pipeline makes of an object's letters. By another pipeline the same
//! letters have other names, and nothing would tell that they are there already: so a place is of one pipeline.

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};

use crate::cli::replay::holds_topic;
use crate::config::Plan;
use crate::name::OWN_FOLDER;
use crate::range::manifest::{Manifest, load_from, store_at};
use crate::recover::store_pipeline;
use crate::store::{Store, StoreError};

const VERSION: u32 = 1;

/// What dead letters were replayed by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Version of this form.
    v: u32,
    /// The topic.
    topic: String,
    /// Hash of the pipeline.
    pipeline: String,
}

/// Where it stands.
pub(in crate::cli) fn place_key(topic: &str) -> String {
    format!("{OWN_FOLDER}dlq/{topic}.json")
}

/// Makes `to` a place of the plan's pipeline, or finds that it is.
///
/// # Errors
/// It is another pipeline's, or holds something else of the topic; it cannot be read or written.
pub(super) async fn take(plan: &Plan, to: &Store) -> anyhow::Result<()> {
    let (topic, key) = (&plan.kafka.topic, place_key(&plan.kafka.topic));
    let asked = Place {
        v: VERSION,
        topic: topic.clone(),
        pipeline: plan.pipeline.hash().to_owned(),
    };
    if let Some(there) = load_from::<Place>(to, &key, VERSION).await? {
        return agree(&there, &asked);
    }
    if Manifest::load(to, topic).await?.is_some() || holds_topic(to, topic).await? {
        bail!(
            "the place of --to holds objects or state of topic {topic} that no replay of dead letters accounts for: \
             what comes back could be there already, under other names; give another place, that is empty"
        );
    }
    store_pipeline(to, &plan.pipeline, &plan.tables).await?;
    match store_at(to, &key, &asked).await {
        // Another one began it at the same moment.
        Err(StoreError::Conflict { .. }) => match load_from(to, &key, VERSION).await? {
            Some(there) => agree(&there, &asked),
            None => bail!("{key} went away: another one runs; run it again"),
        },
        stored => Ok(stored?),
    }
}

fn agree(there: &Place, asked: &Place) -> anyhow::Result<()> {
    ensure!(
        there.pipeline == asked.pipeline,
        "the place of --to was begun with another configuration ({}, now {}): what it made rows would be there a \
         second time, under other names; give another place. For what failed again there, set output.url to that \
         place: those letters lie in it; for what came since, give --since",
        there.pipeline,
        asked.pipeline
    );
    Ok(())
}
