//! That docs/loader.md names every setting, with the default that it has.

use std::collections::BTreeMap;
use std::path::Path;

use headwater_tests::process::{Finished, Loader};

/// A key that nobody has.
const NOBODYS: &str = "zzz";

/// A value with `inner` in it, behind the keys of a path. The ends of a key say what its value is: `[]` a list of
/// tables, `{}` a table of tables with names, `=x` a table whose tag has that value.
fn document(path: &[String], inner: &str) -> String {
    let mut text = format!("{{ {inner} }}");
    for (at, key) in path.iter().enumerate().rev() {
        let (key, end) = key.split_at(key.find(['[', '{']).unwrap_or(key.len()));
        let value = match end {
            "" => text,
            "{}" => format!("{{ any = {text} }}"),
            "[]" => format!("[{text}]"),
            tag => {
                let tag = tag.trim_matches(['[', ']']);
                format!("[{}]", text.replacen('{', &format!("{{ {tag}, "), 1))
            }
        };
        text = match at {
            0 => format!("{key} = {value}\n"),
            _ => format!("{{ {key} = {value} }}"),
        };
    }
    match path.is_empty() {
        true => format!("{inner}\n"),
        false => text,
    }
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/loader.md");
    std::fs::read_to_string(path).expect("the document")
}

fn check(text: &str) -> Finished {
    Loader::with(text).run("check", &[])
}

/// What is said to a configuration that cannot be taken.
fn refusal(text: &str) -> String {
    check(text).stderr
}

/// The words in backticks behind `begin`, on its line.
fn listed(said: &str, begin: &str) -> Option<Vec<String>> {
    let (_, rest) = said.split_once(begin)?;
    let line = rest.lines().next().unwrap_or_default();
    let words = line.split('`').skip(1).step_by(2);
    Some(words.map(str::to_owned).collect())
}

/// The keys of the table at a path; none where there is no table of known keys.
fn keys(path: &[String]) -> Option<Vec<String>> {
    let said = refusal(&document(path, &format!("{NOBODYS} = 1")));
    listed(&said, &format!("unknown field `{NOBODYS}`"))
}

/// Every setting below a path, with its path.
fn walk(path: &mut Vec<String>, found: &mut Vec<Vec<String>>, condition: &[String]) {
    let keys = keys(path).unwrap_or_default();
    for key in keys {
        let mut at = path.clone();
        at.push(key.clone());
        found.push(at);
        // A table, a list of tables, or a table of tables with names: the first that it is.
        for form in [key.clone(), format!("{key}[]"), format!("{key}{{}}")] {
            path.push(form);
            let inner = self::keys(path);
            match &inner {
                // A condition: what `keep` says holds for each.
                Some(inner) if inner == condition => {}
                Some(_) => walk(path, found, condition),
                None => variants(path, found, condition),
            }
            path.pop();
            if inner.is_some() {
                break;
            }
        }
    }
}

/// The settings of each variant, where a list holds tables whose kind a key tells.
fn variants(path: &mut [String], found: &mut Vec<Vec<String>>, condition: &[String]) {
    let said = refusal(&document(path, &format!("{NOBODYS} = 1")));
    let Some(tag) = listed(&said, "missing field").and_then(|tags| tags.first().cloned()) else {
        return;
    };
    let said = refusal(&document(path, &format!("{tag} = \"{NOBODYS}\"")));
    let kinds = listed(&said, &format!("unknown variant `{NOBODYS}`"));
    for kind in kinds.unwrap_or_default() {
        let mut path = path.to_vec();
        let Some(last) = path.last_mut() else {
            return;
        };
        *last = last.replace("[]", &format!("[{tag} = \"{kind}\"]"));
        walk(&mut path, found, condition);
    }
}

/// The document, by the tables that a heading names.
fn sections() -> BTreeMap<String, String> {
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut tables: Vec<String> = Vec::new();
    for line in page().lines() {
        if line.starts_with('#') {
            let spans = line.split('`').skip(1).step_by(2);
            let names = spans.filter(|span| span.starts_with('['));
            tables = names
                .map(|span| span.trim_matches(['[', ']']).to_owned())
                .collect();
        }
        for table in &tables {
            let section = sections.entry(table.clone()).or_default();
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

/// Whether a text names it: as a word in backticks.
fn names(text: &str, word: &str) -> bool {
    let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut spans = text.split('`').skip(1).step_by(2);
    spans.any(|span| span.split(|c| !part_of_a_word(c)).any(|part| part == word))
}

/// Rows of tables, each with its table's head, and paragraphs.
fn pieces(section: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut head = None;
    for line in section.lines() {
        if line.starts_with('|') {
            let head = head.get_or_insert(line);
            pieces.push(format!("{head}\n{line}\n"));
            continue;
        }
        if line.is_empty() || head.is_some() {
            pieces.push(String::new());
        }
        head = None;
        if let Some(last) = pieces.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    pieces
}

/// A key of a path without what its end says; the kind in its place, where it says one.
fn plain(key: &str) -> &str {
    match key.split_once('"') {
        Some((_, kind)) => kind.split('"').next().unwrap_or(kind),
        None => key.trim_end_matches(['[', ']', '{', '}']),
    }
}

/// Whether the page names a setting: in the section of its table, and where that has none of its own, in a row or
/// paragraph of the nearest one above that names the table, too.
fn is_documented(path: &[String], sections: &BTreeMap<String, String>) -> bool {
    let Some((leaf, tables)) = path.split_last() else {
        return false;
    };
    // A table with a section of its own.
    let whole: Vec<&str> = path.iter().map(|key| plain(key)).collect();
    if sections.contains_key(&whole.join(".")) {
        return true;
    }
    for depth in (1..=tables.len()).rev() {
        let heading: Vec<&str> = tables[..depth]
            .iter()
            .map(|key| key.split(['[', '{']).next().unwrap_or(key))
            .collect();
        let Some(section) = sections.get(&heading.join(".")) else {
            continue;
        };
        let is_variant = tables[depth - 1].contains('"');
        let between = &tables[depth - usize::from(is_variant)..];
        return match between.last() {
            None => names(section, leaf),
            Some(table) => pieces(section)
                .iter()
                .any(|piece| names(piece, plain(table)) && names(piece, leaf)),
        };
    }
    // A table of the first level, or a setting beside them.
    tables.is_empty()
        && sections
            .keys()
            .any(|table| table.split('.').next() == Some(leaf))
}

#[test]
fn every_setting_is_named() {
    let condition = keys(&["transform[step = \"keep\"]".to_owned()]);
    let condition = condition.expect("`keep` has settings");
    let mut found = Vec::new();
    walk(&mut Vec::new(), &mut found, &condition);
    let shown = |path: &[String]| path.join(".");
    for known in ["kafka.security.mode", "flush.age", "output.column[].type"] {
        assert!(found.iter().any(|path| shown(path) == known), "{known}");
    }
    assert!(found.len() > 120, "only {} were found", found.len());
    let sections = sections();
    let missing: Vec<String> = found
        .iter()
        .filter(|path| !is_documented(path, &sections))
        .map(|path| shown(path))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/loader.md does not name these:\n{}",
        missing.join("\n")
    );
}

/// What the least configuration gives.
const GIVEN: [&str; 4] = ["kafka.brokers", "kafka.topic", "group.id", "output.url"];

/// Settings as `check` prints them, with their tables: those with a plain value.
fn effective(printed: &str) -> BTreeMap<String, String> {
    let (mut settings, mut table) = (BTreeMap::new(), String::new());
    for line in printed.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut table);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.trim_matches('"').to_owned();
            settings.insert(format!("{table}.{key}"), value);
        }
    }
    settings
}

#[test]
fn every_default_is_the_one_that_is_named() {
    let least = "[kafka]\nbrokers = [\"localhost:1\"]\ntopic = \"t\"\n[group]\nid = \"g\"\n[output]\nurl = \"file:///o\"\n";
    let checked = check(least);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let defaults = effective(&checked.stdout);
    let (mut compared, mut wrong) = (0, Vec::new());
    for (table, section) in sections() {
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [_, settings, default, ..] = cells.as_slice() else {
                continue;
            };
            for setting in settings.split('`').skip(1).step_by(2) {
                let key = format!("{table}.{setting}");
                let Some(is) = defaults.get(&key) else {
                    continue;
                };
                compared += 1;
                if default.trim_matches('`') != is && !GIVEN.contains(&key.as_str()) {
                    wrong.push(format!("{key} is {is}, and said to be {default}"));
                }
            }
        }
    }
    assert!(compared > 25, "only {compared} were compared");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
