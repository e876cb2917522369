//! That `docs/agent.md` names every setting, with the default that it has.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ConfigFile, Host, Plan};

const KAFKA: &str = "[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n";

/// A configuration in which everything has its default, but for what has none.
const LEAST: &str = "[[file]]\nid = \"f\"\npaths = [\"/f\"]\n[[journal]]\nid = \"j\"\n\
                     [[sensor]]\nid = \"s\"\npaths = [\"/s\"]\n";

/// Sections as the page writes them, and how one begins with a key that does not exist.
const SECTIONS: &[(&str, &str)] = &[
    ("", ""),
    ("[kafka]", ""),
    ("[credentials]", "[credentials]"),
    ("[produce]", "[produce]"),
    ("[window]", "[window]"),
    ("[memory]", "[memory]"),
    ("[spool]", "[spool]"),
    ("[spool.when_full]", "[spool.when_full]"),
    ("[checkpoint]", "[checkpoint]"),
    ("[uplink]", "[uplink]"),
    ("[flash]", "[flash]"),
    ("[shutdown]", "[shutdown]"),
    ("[admin]", "[admin]"),
    ("[[file]]", "[[file]]\nid = \"f\"\npaths = []"),
    ("[[journal]]", "[[journal]]\nid = \"j\""),
    ("[[sensor]]", "[[sensor]]\nid = \"s\""),
];

/// The page's table: section and key, and the default.
fn documented() -> BTreeMap<(String, String), String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page.split("## Every setting\n").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut section = String::new();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<String> = row
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        if !cells[1].is_empty() {
            section.clone_from(&cells[1]);
        }
        ((section.clone(), cells[2].clone()), cells[3].clone())
    })
    .collect()
}

/// The keys that a section takes, as it says where one is unknown.
fn keys(section: &str, begin: &str) -> Vec<String> {
    let text = match section {
        "" => format!("no_such_key = 1\n{KAFKA}"),
        "[kafka]" => format!("{KAFKA}no_such_key = 1\n"),
        _ => format!("{KAFKA}{begin}\nno_such_key = 1\n"),
    };
    let error = toml::from_str::<ConfigFile>(&text).unwrap_err().to_string();
    let expected = error
        .split("expected")
        .nth(1)
        .unwrap_or_else(|| panic!("{section}: {error}"));
    let keys = expected.split('`').skip(1).step_by(2);
    keys.map(str::to_owned).collect()
}

#[test]
fn every_setting_is_documented() {
    let documented = documented();
    let mut known = Vec::new();
    let tables = [
        "produce",
        "window",
        "memory",
        "spool",
        "checkpoint",
        "uplink",
        "flash",
        "shutdown",
        "admin",
    ];
    let more = [
        "kafka",
        "credentials",
        "when_full",
        "file",
        "journal",
        "sensor",
    ];
    for (section, begin) in SECTIONS {
        for key in keys(section, begin) {
            // Sections of their own.
            let is_section = ["", "[spool]"].contains(section)
                && (tables.contains(&key.as_str()) || more.contains(&key.as_str()));
            if !is_section {
                known.push(((*section).to_owned(), key));
            }
        }
    }
    for place in &known {
        assert!(
            documented.contains_key(place),
            "{place:?} is not in docs/agent.md"
        );
    }
    for place in documented.keys() {
        assert!(
            known.contains(place),
            "{place:?} is in docs/agent.md, and is no setting"
        );
    }
}

#[test]
fn every_default_is_documented_as_it_is() {
    let config = toml::from_str(&format!("{KAFKA}{LEAST}")).unwrap();
    let host = Host {
        machine_id: Some("0123".into()),
    };
    let effective = toml::to_string(&Plan::new(config, &host).unwrap().effective()).unwrap();
    let effective: toml::Value = toml::from_str(&effective).unwrap();
    for ((section, key), default) in documented() {
        let mut at = Some(&effective);
        for part in section
            .trim_matches(['[', ']'])
            .split('.')
            .filter(|part| !part.is_empty())
        {
            at = at.and_then(|table| table.get(part));
            at = at.and_then(|table| table.as_array().map_or(Some(table), |list| list.first()));
        }
        let value = at
            .and_then(|table| table.get(&key))
            .filter(|value| match value {
                toml::Value::Table(_) => false,
                toml::Value::Array(list) => !list.is_empty(),
                _ => true,
            });
        let value = value.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        // Of this machine, or of this very test.
        if default == "required"
            || key == "device"
            || (section.as_str(), key.as_str()) == ("[[sensor]]", "paths")
        {
            continue;
        }
        assert_eq!(value.unwrap_or_default(), default, "{section} {key}");
    }
}
