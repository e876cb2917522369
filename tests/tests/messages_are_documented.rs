//! That the documents name everything that agent and loader say unasked (at `info` and above): an operator
//! who finds it in the log finds it there. The same of the reasons that notices give.

use std::collections::BTreeMap;
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

/// The reasons of notices, and what they stand in (`loss`, `close`), as `record/src/notice.rs` has them.
fn reasons(code: &str) -> BTreeMap<String, Vec<&'static str>> {
    let (_, module) = code.split_once("pub mod reason {").expect("the reasons");
    let (module, _) = module.split_once("\n}\n").expect("its end");
    let mut reasons = BTreeMap::new();
    let mut comment = String::new();
    for line in module.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
        } else if let Some((_, value)) = line.split_once(": &str = \"") {
            let (head, _) = comment.split_once(':').expect("what has it");
            let head = head.to_lowercase();
            let kinds = ["loss", "close"].into_iter();
            let kinds = kinds.filter(|kind| head.contains(kind)).collect();
            reasons.insert(value.trim_end_matches("\";").to_owned(), kinds);
            comment.clear();
        }
    }
    reasons
}

/// The same, as the table of "Notices" in `docs/agent.md` has them.
fn reasons_of_the_page(page: &str) -> BTreeMap<String, Vec<&'static str>> {
    let (_, section) = page.split_once("\n### Notices\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let rows = section.split("\n### ").next().unwrap_or_default().lines();
    let rows = rows.filter_map(|row| {
        let mut cells = row.strip_prefix("| `")?.split(" | ");
        let reason = cells.next()?.strip_suffix('`')?;
        let notice = cells.next()?;
        let kinds = ["loss", "close"].into_iter();
        let has = |kind: &&str| notice.split([',', ' ']).any(|word| word == *kind);
        let does_say = cells.filter(|cell| cell.len() > 5).count() == 2;
        (reason != "reason").then(|| {
            assert!(does_say, "{reason}: what happened, and what to do?");
            (reason.to_owned(), kinds.filter(has).collect())
        })
    });
    rows.collect()
}

#[test]
fn every_reason_of_a_notice_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = |name: &str| fs::read_to_string(root.join(name)).expect("a text of the project");
    let code = reasons(&text("record/src/notice.rs"));
    assert!(code.len() >= 15, "only {} were found", code.len());
    assert!(code.values().all(|kinds| !kinds.is_empty()), "{code:?}");
    assert_eq!(code, reasons_of_the_page(&text("docs/agent.md")));

    // None is given that is not among them.
    let mut files = Vec::new();
    for folder in ["agent/src", "msk/src"] {
        sources(&root.join(folder), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next();
        let file = file.strip_prefix(&root).expect("it is in the project");
        let is_test = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
        let given = code.unwrap_or_default().contains("reason: \"");
        assert!(is_test || !given, "{}: a reason of its own", file.display());
    }
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
