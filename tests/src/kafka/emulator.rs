//! The Java side of MSK's IAM (`tests/kafka/src`): compiled once into the cache, under the hash of
//! its sources.

use super::jars;
use crate::pki::fingerprint_of;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package of every class.
pub(super) const PACKAGE: &str = "headwater";

macro_rules! sources {
    ($($name:literal),+) => {
        [$(($name, include_str!(concat!("../../kafka/src/headwater/", $name, ".java")))),+]
    };
}

const SOURCES: [(&str, &str); 11] = sources![
    "Counters",
    "Denied",
    "Iam",
    "IamAuthorizer",
    "IamPrincipals",
    "Judge",
    "Log",
    "NoLogin",
    "Policy",
    "PresignedToken",
    "SigV4Validator"
];

/// Returns the folder of the classes, after compiling them if need be.
pub(super) fn classes() -> Result<PathBuf> {
    let libraries = jars::folder()?.join("libs");
    let mut all = jars::VERSION.to_owned();
    for (name, text) in SOURCES {
        all.push_str(name);
        all.push_str(text);
    }
    let hash = fingerprint_of(all.as_bytes());
    jars::kept(&format!("msk-emulator-{}", &hash[..16]), |partial| {
        compile(partial, &libraries)
    })
}

fn compile(folder: &Path, libraries: &Path) -> Result<()> {
    let mut command = Command::new("javac");
    command
        .args(["-proc:none", "--release", "17", "-cp"])
        .arg(libraries.join("*"))
        .arg("-d")
        .arg(folder);
    let sources = tempfile::tempdir().context("cannot create a temporary folder")?;
    for (name, text) in SOURCES {
        let path = sources.path().join(format!("{name}.java"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        command.arg(path);
    }
    let output = command
        .output()
        .context("cannot run javac: the tests need a JDK of Java 17 or later")?;
    if !output.status.success() {
        bail!(
            "the MSK emulator does not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_java_source_is_compiled() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/src/headwater");
        let mut found: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let named: Vec<String> = SOURCES
            .iter()
            .map(|(name, _)| format!("{name}.java"))
            .collect();
        assert_eq!(found, named);
    }
}
