//! A temporary folder for one part of a test.
//!
//! It is removed with its owner, except when the test is failing: then it stays and its path is
//! said, so that logs and data can be read.

use crate::outside::say;
use anyhow::{Context, Result};
use std::path::Path;
use tempfile::TempDir;

/// Every folder's name begins so: the watchdog (see `child.rs`) removes nothing else.
pub(crate) const PREFIX: &str = "headwater-test-";

#[derive(Debug)]
pub(crate) struct Folder {
    inner: Option<TempDir>,
}

impl Folder {
    /// Creates `<temp>/headwater-test-<name>-<random>`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let inner = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{name}-"))
            .tempdir()
            .context("cannot create a temporary folder")?;
        Ok(Self { inner: Some(inner) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.inner
            .as_ref()
            .expect("the folder is there until drop")
            .path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && std::thread::panicking()
        {
            say(&format!("kept for you to read: {}", inner.keep().display()));
        }
    }
}
