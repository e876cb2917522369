//! The tables that rows are enriched from: read from this machine's disk or from S3, and read again
//! between batches.
//!
//! A table is a part of the pipeline, by the hash of its content. So a table that has changed makes
//! another pipeline, which is stored in the output before any batch names it; the open batch goes on
//! with the one that it was opened with, and a batch that a crash cut short is made again with that one
//! too, whatever the table is by then. A table that cannot be read, makes no sense, or has no room beside
//! the versions that are in use ([`MemoryPlan::tables`](crate::memory::MemoryPlan)), changes nothing: the old
//! one stays, and it is said and counted. At the start there is no old one: the loader stops.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock;
use crate::config::Plan;
use crate::config::file::Tables;
use crate::metrics::Requests;
use crate::pipeline::{Pipeline, content_hash};
use crate::recover::store_pipeline;
use crate::store::s3::{S3, S3Settings};
use crate::store::{Retries, Store};
use crate::transform::lookup::TABLE_BYTES_MAX;
use crate::worker::Shared;

/// Where tables are read from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Paths, or `s3://bucket/key`.
    pub paths: Vec<PathBuf>,
    /// How buckets are reached: as the output's.
    pub s3: S3Settings,
}

impl Sources {
    /// Reads all tables; what is asked of S3 is counted in `requests`. Blocks.
    ///
    /// # Errors
    /// One line for each that cannot be read.
    pub fn read(&self, requests: &Requests) -> Result<Tables, Vec<String>> {
        let mut tables = Tables::new();
        let mut problems = Vec::new();
        for path in &self.paths {
            let name = path.to_string_lossy().into_owned();
            let read = match name.strip_prefix("s3://") {
                Some(place) => self.read_s3(place, requests),
                None => read_bounded(path, TABLE_BYTES_MAX).map_err(|error| error.to_string()),
            };
            match read {
                Ok(bytes) => {
                    tables.insert(name, bytes);
                }
                Err(error) => problems.push(format!("transform.table {name}: {error}")),
            }
        }
        match problems.is_empty() {
            true => Ok(tables),
            false => Err(problems),
        }
    }

    fn read_s3(&self, place: &str, requests: &Requests) -> Result<Vec<u8>, String> {
        let (bucket, key) = place
            .split_once('/')
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or("a table in S3 is written s3://bucket/key")?;
        let mut settings = self.s3.clone();
        if settings.bucket != bucket {
            // Another bucket may be another account's.
            settings.options.owner = None;
        }
        bucket.clone_into(&mut settings.bucket);
        settings.prefix.clear();
        let get = async {
            let store = S3::new(settings, Retries::Client, requests).await;
            store.get_bounded(key, TABLE_BYTES_MAX).await
        };
        // A thread of its own: the caller may be inside a runtime, or outside of any.
        let got = std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let reading = scope.spawn(move || runtime.block_on(get));
            let got = reading.join().map_err(|_| "reading it ended early")?;
            got.map_err(|error| error.to_string())
        })?;
        let bytes = got.ok_or("there is no such object")?;
        Ok(bytes.into())
    }
}

/// Reads a file that has a bound, in bytes.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let bound = headwater_msk::Bytes(bytes_max);
        return Err(std::io::Error::other(format!("it is larger than {bound}")));
    }
    Ok(bytes)
}

/// Reads the tables again, every so often, and puts a pipeline with those that changed into `current`.
pub async fn keep_fresh(
    shared: Arc<Shared>,
    current: watch::Sender<Arc<Pipeline>>,
    every: Duration,
) {
    let metrics = &shared.metrics.tables;
    metrics.read(clock::now().wall_ms);
    let mut versions = Versions::new(&shared.plan);
    loop {
        tokio::time::sleep(every).await;
        let running = Arc::clone(&current.borrow());
        let store = &shared.store;
        let sources = (&shared.plan.table_sources, &shared.metrics.requests);
        versions.count(&shared.pipelines.in_use().await);
        match versions.read_again(sources, store, &running).await {
            Ok(None) => metrics.read(clock::now().wall_ms),
            Ok(Some(pipeline)) => {
                metrics.read(clock::now().wall_ms);
                metrics.reloads.inc();
                tracing::info!(
                    pipeline = pipeline.hash(),
                    "a table has changed; the next batches use it"
                );
                current.send_replace(pipeline);
            }
            Err(reason) => {
                metrics.failures.inc();
                tracing::warn!(
                    reason,
                    "a table cannot be read again; the one from before stays"
                );
            }
        }
    }
}

/// The versions of the tables that something may still be made with, and the room for them.
#[derive(Debug)]
pub struct Versions {
    /// Pipelines over them; those that are gone take no memory any more.
    pipelines: Vec<Weak<Pipeline>>,
    /// Bytes of the first version as it lies there, which is kept.
    raw: u64,
    /// Bytes for all of them.
    room: u64,
}

impl Versions {
    /// Only the first one, which the plan was made with.
    pub fn new(plan: &Plan) -> Self {
        Self {
            pipelines: vec![Arc::downgrade(&plan.pipeline)],
            raw: raw(&plan.tables),
            room: plan.memory.tables,
        }
    }

    /// Counts these, too: begun batches are made with what they were begun with, be it of another configuration.
    pub fn count(&mut self, in_use: &[Arc<Pipeline>]) {
        for pipeline in in_use.iter().map(Arc::downgrade) {
            if !self.pipelines.iter().any(|known| known.ptr_eq(&pipeline)) {
                self.pipelines.push(pipeline);
            }
        }
    }

    /// The pipeline with the tables as they are now, stored in the output; none where they are as before.
    ///
    /// # Errors
    /// They cannot be read, make no sense, have no room, or cannot be stored.
    pub async fn read_again(
        &mut self,
        (sources, requests): (&Sources, &Requests),
        store: &Store,
        running: &Arc<Pipeline>,
    ) -> Result<Option<Arc<Pipeline>>, String> {
        let (sources, requests) = (sources.clone(), requests.clone());
        let before = Arc::clone(running);
        let made = tokio::task::spawn_blocking(move || {
            let tables = sources
                .read(&requests)
                .map_err(|problems| problems.join("; "))?;
            with_tables(&before, tables)
        });
        let Some((pipeline, tables)) = made.await.map_err(|error| error.to_string())?? else {
            return Ok(None);
        };
        let pipeline = Arc::new(pipeline);
        self.admit(&pipeline, raw(&tables))?;
        let stored = store_pipeline(store, &pipeline, &tables).await;
        stored.map_err(|error| format!("it cannot be stored beside the data: {error}"))?;
        self.pipelines.push(Arc::downgrade(&pipeline));
        Ok(Some(pipeline))
    }

    /// Whether there is room for one more. `raw`: its bytes as they lie there.
    fn admit(&mut self, pipeline: &Pipeline, raw: u64) -> Result<(), String> {
        self.pipelines.retain(|version| version.strong_count() > 0);
        let held = |pipeline: &Pipeline| pipeline.tables_held() as u64;
        let in_use = self.pipelines.iter().filter_map(Weak::upgrade);
        let in_use = in_use.map(|version| held(&version)).sum::<u64>() + self.raw;
        let asked = held(pipeline) + raw;
        match in_use + asked > self.room {
            false => Ok(()),
            true => Err(format!(
                "the tables take {} now, versions that are in use take {}, and the memory plan has {} for all; \
                 raise limits.memory and start anew",
                headwater_msk::Bytes(asked.next_multiple_of(1024)),
                headwater_msk::Bytes(in_use.next_multiple_of(1024)),
                headwater_msk::Bytes(self.room)
            )),
        }
    }
}

fn raw(tables: &Tables) -> u64 {
    tables.values().map(|bytes| bytes.len() as u64).sum()
}

/// The same pipeline over other tables; none where they hold what they held.
fn with_tables(running: &Pipeline, tables: Tables) -> Result<Option<(Pipeline, Tables)>, String> {
    let mut spec = running.spec().clone();
    let hashes = tables
        .iter()
        .map(|(path, bytes)| (path.clone(), content_hash(bytes)))
        .collect();
    if spec.tables == hashes {
        return Ok(None);
    }
    spec.tables = hashes;
    let pipeline = Pipeline::new(spec, |path| tables.get(path).map(Vec::as_slice));
    let pipeline = pipeline.map_err(|error| error.to_string())?;
    Ok(Some((pipeline, tables)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::pipeline_over;

    #[test]
    fn only_a_table_that_changed_makes_another_pipeline() {
        let steps = "[[transform]]\nstep='lookup'\ntable='t'\nfield='id'\n";
        let table = |text: &str| Tables::from([("t".to_owned(), text.as_bytes().to_vec())]);
        let running = pipeline_over(steps, "all", &table("id,site\n1,Ulm\n"));
        assert!(
            with_tables(&running, table("id,site\n1,Ulm\n"))
                .unwrap()
                .is_none()
        );
        let (changed, _) = with_tables(&running, table("id,site\n1,Bonn\n"))
            .unwrap()
            .unwrap();
        assert_ne!(changed.hash(), running.hash());
        let broken = with_tables(&running, table("id,site\n1,Ulm\n1,Bonn\n"));
        assert!(broken.unwrap_err().contains("\"1\" twice"));
    }

    #[test]
    fn a_version_that_has_no_room_is_not_taken_until_others_are_gone() {
        let steps = "[[transform]]\nstep='lookup'\ntable='t'\nfield='id'\n";
        let of = |rows: usize| {
            let rows: String = (0..rows).map(|n| format!("{n},Ulm\n")).collect();
            let bytes = format!("id,site\n{rows}").into_bytes();
            Arc::new(pipeline_over(
                steps,
                "all",
                &Tables::from([("t".to_owned(), bytes)]),
            ))
        };
        let (first, second, third) = (of(1000), of(1001), of(1002));
        let held = first.tables_held() as u64;
        let mut versions = Versions {
            pipelines: vec![Arc::downgrade(&first)],
            raw: 0,
            room: 3 * held,
        };
        assert!(versions.admit(&of(100_000), 0).is_err(), "far too large");
        versions.admit(&second, 0).unwrap();
        // Told of again, it counts once.
        versions.count(&[Arc::clone(&second), Arc::clone(&first)]);
        versions.count(&[Arc::clone(&second)]);
        assert_eq!(versions.pipelines.len(), 2);
        let said = versions.admit(&third, held).unwrap_err();
        assert!(said.contains("raise limits.memory"), "{said}");
        drop(second);
        versions.admit(&third, held / 2).unwrap();
    }

    #[test]
    fn a_file_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(
            read_bounded(&path, 4)
                .unwrap_err()
                .to_string()
                .contains("larger than 4")
        );
        assert!(read_bounded(folder.path(), 9).is_err());
    }
}
