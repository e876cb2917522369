//! That the documents name everything that the agent says unasked (at `info` and above): an operator
//! who finds it in the journal finds it there.

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

#[test]
fn every_message_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut documents = String::new();
    for name in ["agent.md", "msk.md"] {
        documents.push_str(&fs::read_to_string(root.join("docs").join(name)).unwrap());
    }
    let mut files = Vec::new();
    sources(&root.join("agent/src"), &mut files);
    sources(&root.join("msk/src"), &mut files);
    let (mut seen, mut missing) = (0, Vec::new());
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for level in ["tracing::info!(", "tracing::warn!(", "tracing::error!("] {
            for call in code.split(level).skip(1) {
                let Some(message) = message(call) else {
                    continue;
                };
                let Some(part) = fixed_part(&message) else {
                    continue;
                };
                seen += 1;
                if !documents.contains(&part) {
                    missing.push(format!("{}: {message}", file.display()));
                }
            }
        }
    }
    assert!(
        seen > 80,
        "only {seen} were found: they are written otherwise?"
    );
    assert!(
        missing.is_empty(),
        "neither docs/agent.md nor docs/msk.md names these:\n{}",
        missing.join("\n")
    );
}
