//! Pipelines beside the data, by their hash: what each batch was begun with.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::RecoverError;
use crate::config::file::Tables;
use crate::name::OWN_FOLDER;
use crate::pipeline::{Pipeline, PipelineSpec};
use crate::store::{Store, StoreError, plain_content};

/// Pipelines that something is made with now, so that partitions which finish batches of one that is no longer the
/// configuration's share it: its tables may be large, and the memory plan has room for a few versions.
#[derive(Debug, Default)]
pub struct Pipelines {
    /// By hash. Held while one is read, so that whoever wants the same waits for it.
    known: Mutex<BTreeMap<String, Weak<Pipeline>>>,
}

impl Pipelines {
    /// Takes note of one that need not be read.
    pub async fn know(&self, pipeline: &Arc<Pipeline>) {
        let mut known = self.known.lock().await;
        known.retain(|_, known| known.strong_count() > 0);
        known.insert(pipeline.hash().to_owned(), Arc::downgrade(pipeline));
    }

    /// All of them, those that begun batches are made with among them.
    pub async fn in_use(&self) -> Vec<Arc<Pipeline>> {
        let known = self.known.lock().await;
        known.values().filter_map(Weak::upgrade).collect()
    }

    /// The pipeline of this hash.
    ///
    /// # Errors
    /// It cannot be read, or cannot run here.
    pub async fn get(&self, store: &Store, hash: &str) -> Result<Arc<Pipeline>, RecoverError> {
        let mut known = self.known.lock().await;
        if let Some(pipeline) = known.get(hash).and_then(Weak::upgrade) {
            return Ok(pipeline);
        }
        let pipeline = Arc::new(load_pipeline(store, hash).await?);
        known.retain(|_, known| known.strong_count() > 0);
        known.insert(hash.to_owned(), Arc::downgrade(&pipeline));
        Ok(pipeline)
    }
}

fn config_key(hash: &str) -> String {
    format!("{OWN_FOLDER}config/{hash}.json")
}

fn table_key(hash: &str) -> String {
    format!("{OWN_FOLDER}table/{hash}.csv")
}

/// Stores the pipeline and its tables under their hashes, before any batch names them.
///
/// # Errors
/// See [`StoreError`].
pub async fn store_pipeline(
    store: &Store,
    pipeline: &Pipeline,
    tables: &Tables,
) -> Result<(), StoreError> {
    for (path, hash) in &pipeline.spec().tables {
        if let Some(table) = tables.get(path) {
            let bytes = Bytes::copy_from_slice(table);
            let content = plain_content(&bytes);
            store.put_new(&table_key(hash), bytes, content).await?;
        }
    }
    let spec = serde_json::to_vec(pipeline.spec()).unwrap_or_default();
    let content = plain_content(&spec);
    store
        .put_new(&config_key(pipeline.hash()), spec.into(), content)
        .await?;
    Ok(())
}

async fn load_pipeline(store: &Store, hash: &str) -> Result<Pipeline, RecoverError> {
    let key = config_key(hash);
    let wrong = |source| RecoverError::Pipeline {
        key: key.clone(),
        source,
    };
    let bytes = store
        .get(&key)
        .await?
        .ok_or_else(|| RecoverError::Missing(key.clone()))?;
    let spec: PipelineSpec = serde_json::from_slice(&bytes).map_err(|error| wrong(error.into()))?;
    let mut tables = BTreeMap::new();
    for (path, hash) in &spec.tables {
        let key = table_key(hash);
        let table = store.get(&key).await?.ok_or(RecoverError::Missing(key))?;
        tables.insert(path.clone(), table);
    }
    let pipeline =
        Pipeline::new(spec, |path| tables.get(path).map(|table| &**table)).map_err(wrong)?;
    if pipeline.hash() != hash {
        return Err(RecoverError::Missing(format!(
            "{key} with the content of its name"
        )));
    }
    Ok(pipeline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::pipeline_over;
    use crate::store::folder::Folder;

    fn with_table(site: &str) -> (Pipeline, Tables) {
        let steps = "[[transform]]\nstep='lookup'\ntable='t'\nfield='id'\n";
        let table = format!("id,site\n1,{site}\n").into_bytes();
        let tables = Tables::from([("t".to_owned(), table)]);
        (pipeline_over(steps, "all", &tables), tables)
    }

    #[tokio::test]
    async fn partitions_share_an_old_pipeline_and_its_tables() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().into()));
        let (old, tables) = with_table("Ulm");
        store_pipeline(&store, &old, &tables).await.unwrap();
        let pipelines = Pipelines::default();
        // At once, as after a rebalance.
        let get = || async { pipelines.get(&store, old.hash()).await.unwrap() };
        let (first, second) = tokio::join!(get(), get());
        assert!(Arc::ptr_eq(&first, &second), "read twice");
        assert!(Arc::ptr_eq(&first, &get().await));
        let in_use = pipelines.in_use().await;
        assert!(in_use.iter().all(|one| Arc::ptr_eq(one, &first)) && in_use.len() == 1);
        drop(in_use);
        assert!(first.tables_held() > 0 && first.hash() == old.hash());
        // Nothing is kept for nobody.
        let gone = Arc::downgrade(&first);
        drop((first, second));
        assert!(gone.upgrade().is_none());
        assert_eq!(get().await.hash(), old.hash());
        // The one that runs is not read, nor need it be stored.
        let running = Arc::new(with_table("Bonn").0);
        let read = pipelines.get(&store, running.hash()).await;
        assert!(matches!(read, Err(RecoverError::Missing(_))), "{read:?}");
        pipelines.know(&running).await;
        let got = pipelines.get(&store, running.hash()).await.unwrap();
        assert!(Arc::ptr_eq(&got, &running));
    }
}
