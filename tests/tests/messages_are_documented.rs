//! That the documents name everything that agent and loader say unasked (at `info` and above): an operator
//! who finds it in the log finds it there.

use std::fs;
use std::path::{Path, PathBuf};

/// As much of a message's first fixed part as must stand in a document.
const PART: usize = 30;
/// Shorter fixed parts name nothing, but for a message that is nothing else: it must stand there as a
/// whole. Where there is neither, the text is another's.
const LEAST: usize = 12;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The text in which a macro's message stands: its first literal that is not a field's value.
fn message(call: &str) -> Option<String> {
    let mut rest = call;
    loop {
        let begin = rest.find('"')?;
        let mut text = String::new();
        let mut characters = rest[begin + 1..].char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break begin + 1 + at,
                (_, '\\') => match characters.next()?.1 {
                    '\n' => text.push(' '),
                    escaped => text.push(escaped),
                },
                (_, character) => text.push(character),
            }
        };
        if !rest[..begin].trim_end().ends_with('=') {
            return Some(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        rest = &rest[end + 1..];
    }
}

/// The first part of it that is always the same and long enough to be known by, as it is to be found.
fn fixed_part(message: &str) -> Option<String> {
    let mut parts = message.split(['{', '}']).step_by(2);
    let Some(part) = parts.find(|part| part.len() >= LEAST) else {
        return (!message.contains('{')).then(|| format!("`{message}`"));
    };
    let part = part.trim_matches([' ', ':', ';', ',', '.', '(']);
    let begin: String = part.chars().take(PART).collect();
    Some(begin.trim_end().to_owned())
}

/// Everything that the sources under these folders say at these levels.
fn said(folders: &[&str], levels: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in folders {
        sources(&root.join(folder), &mut files);
    }
    let mut said = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next();
        for level in levels {
            let begin = format!("tracing::{level}!(");
            let calls = code.unwrap_or_default().split(&begin).skip(1);
            said.extend(calls.filter_map(|call| Some((file.clone(), message(call)?))));
        }
    }
    said
}

/// Each of them that can be known by a fixed part stands in one of the documents. `least`: how many there are,
/// as long as they are written as this test looks for them.
fn assert_documented(said: &[(PathBuf, String)], documents: &[&str], least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &&str| fs::read_to_string(root.join(name)).expect("a document");
    let documented: String = documents.iter().map(read).collect();
    let (mut seen, mut missing) = (0, Vec::new());
    for (file, message) in said {
        let Some(part) = fixed_part(message) else {
            continue;
        };
        seen += 1;
        if !documented.contains(&part) {
            missing.push(format!("{}: {message}", file.display()));
        }
    }
    assert!(
        seen >= least,
        "only {seen} were found: they are written otherwise?"
    );
    assert!(
        missing.is_empty(),
        "none of {documents:?} names these:\n{}",
        missing.join("\n")
    );
}

const LEVELS: [&str; 3] = ["info", "warn", "error"];

#[test]
fn every_message_of_the_agent_is_documented() {
    let said = said(&["agent/src", "msk/src"], &LEVELS);
    assert_documented(&said, &["agent.md", "msk.md"], 80);
}

#[test]
fn every_message_of_the_loader_is_documented() {
    let said = said(&["loader/src", "msk/src"], &LEVELS);
    assert_documented(&said, &["loader.md", "msk.md"], 50);
}
