//! `DynamoDB` Local, Amazon's own stand-in, from Maven's repository.
//!
//! Its licence wants an AWS account in good standing of whoever runs it, so nobody gets it without
//! having asked: see `dynamodb_local_holds_each_item_once`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::kafka::jars::{copy_dependencies, kept};
use crate::outside::say;
use crate::served::Served;

/// The version that `tests/dynamodb/pom.xml` names.
const VERSION: &str = "2.6.1";

const POM: &str = include_str!("../../dynamodb/pom.xml");

/// Starts it, empty and in memory.
pub(super) fn start() -> Result<Served> {
    let jars = kept(&format!("dynamodb-local-{VERSION}"), fetch)?.join("libs");
    ensure!(jars.is_dir(), "no jars in {}", jars.display());
    Served::start("DynamoDB Local", |_, port| {
        let mut command = Command::new("java");
        command
            .args([
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
                "-Djava.awt.headless=true",
            ])
            // SQLite, of which it is made.
            .arg(format!("-Dsqlite4java.library.path={}", jars.display()))
            .arg("-cp")
            .arg(jars.join("*"))
            .arg("com.amazonaws.services.dynamodbv2.local.main.ServerRunner")
            .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port"])
            .arg(port.to_string())
            .env("DDB_LOCAL_TELEMETRY", "0")
            // Its SDK looks for one.
            .env("AWS_REGION", "us-east-1");
        Ok(command)
    })
}

fn fetch(folder: &Path) -> Result<()> {
    say(&format!(
        "fetching DynamoDB Local {VERSION} with mvn into the cache (50 MB, once), under Amazon's licence for it"
    ));
    let pom = folder.join("pom.xml");
    fs::write(&pom, POM).with_context(|| format!("cannot write {}", pom.display()))?;
    copy_dependencies(folder, &format!("DynamoDBLocal-{VERSION}.jar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_fetches_the_version_that_the_cache_is_named_after() {
        assert!(POM.contains(&format!("<version>{VERSION}</version>")));
    }
}
