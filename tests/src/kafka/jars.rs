//! The cache outside the tree, and the broker's jars in it, fetched once by Maven.
//!
//! A folder of the cache is filled beside its place and renamed into it, under a file lock, so test
//! processes that start together fetch once and nobody sees half a folder.

use crate::outside::{say, var};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that `tests/kafka/pom.xml` names.
pub(super) const VERSION: &str = "4.3.1";

const POM: &str = include_str!("../../kafka/pom.xml");

const CONNECT_POM: &str = include_str!("../../connect/pom.xml");

/// Returns the folder that holds the jars, after fetching them if need be.
pub(super) fn folder() -> Result<PathBuf> {
    kept(&format!("kafka-{VERSION}"), fetch)
}

/// Kafka Connect of the same version, for the bench.
pub(super) fn connect() -> Result<PathBuf> {
    let fetch = |folder: &Path| {
        say(&format!(
            "fetching Kafka Connect {VERSION} with mvn into the cache (33 MB, once)"
        ));
        let pom = folder.join("pom.xml");
        fs::write(&pom, CONNECT_POM).with_context(|| format!("cannot write {}", pom.display()))?;
        copy_dependencies(folder, &format!("connect-file-{VERSION}.jar"))
    };
    Ok(kept(&format!("kafka-connect-{VERSION}"), fetch)?.join("libs"))
}

/// Returns the folder `name` of the cache, after filling it with `fill` if it is not there.
pub(crate) fn kept(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache()?;
    let ready = cache.join(name);
    if ready.is_dir() {
        return Ok(ready);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path)
        .with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if !ready.is_dir() {
        let partial = tempfile::Builder::new()
            .prefix(&format!("{name}.partial-"))
            .tempdir_in(&cache)
            .context("cannot create a folder in the cache")?;
        fill(partial.path())?;
        fs::rename(partial.path(), &ready)
            .with_context(|| format!("cannot move a folder to {}", ready.display()))?;
    }
    Ok(ready)
}

/// Where things lie that are fetched once.
fn cache() -> Result<PathBuf> {
    if let Some(folder) = var("HEADWATER_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = var("XDG_CACHE_HOME") {
        return Ok(Path::new(&folder).join("headwater"));
    }
    let home = var("HOME").context("neither HEADWATER_CACHE nor HOME is set: no place for jars")?;
    Ok(Path::new(&home).join(".cache").join("headwater"))
}

fn fetch(folder: &Path) -> Result<()> {
    let pom = folder.join("pom.xml");
    fs::write(&pom, POM).with_context(|| format!("cannot write {}", pom.display()))?;
    say(&format!(
        "fetching Apache Kafka {VERSION} with mvn into the cache (54 MB, once)"
    ));
    copy_dependencies(folder, &format!("kafka_2.13-{VERSION}.jar"))
}

/// Has Maven copy what `pom.xml` in `folder` names, and all that this needs, into `libs` beside it. One of
/// the files that must come is `jar`.
pub(crate) fn copy_dependencies(folder: &Path, jar: &str) -> Result<()> {
    let libs = folder.join("libs");
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-f"])
        .arg(folder.join("pom.xml"))
        .arg(format!("-DoutputDirectory={}", libs.display()))
        .output()
        .context("cannot run mvn: the tests need Maven and Java 17 or later")?;
    if !output.status.success() || !libs.join(jar).is_file() {
        bail!(
            "mvn could not fetch {jar} ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poms_fetch_the_version_that_the_cache_is_named_after() {
        let version = format!("<version>{VERSION}</version>");
        for pom in [POM, CONNECT_POM] {
            assert_eq!(pom.matches(&version).count(), 2, "{pom}");
        }
    }
}
