//! `headwater-agent check`: everything that is wrong with a configuration, or what it means and
//! what it leads to on this machine now.
//!
//! Standard output is a configuration again: all of it, with each default and its reason, and what
//! each source matches as comments. Problems and warnings go to standard error.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use glob::Pattern;

use crate::cli::connect;
use crate::config::{ConfigFile, Host, NamedBy, Plan, defaults, memory};
use crate::discover::scan;
use crate::journal::JOURNALCTL;
use crate::sample::read::Kind;

/// Most paths of one source that are listed.
const LISTED_MAX: usize = 10;

/// Checks the configuration at `path` and prints what it means: TOML, or with `json` the same as
/// JSON. With `walk` it then goes the way to the topic, step by step. Exit code 0 where it can be run,
/// and the way leads there; 1 where not.
///
/// # Errors
/// The file cannot be read or is not of this form, or the output cannot be written.
pub fn run(path: &Path, json: bool, walk: bool) -> anyhow::Result<ExitCode> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let plan = check(path, &Host::read(), json, &mut out, &mut err)?;
    // The walk's threads log there: they must not wait for us.
    drop(err);
    let is_fine = match plan {
        Some(plan) if walk => connect::run(&plan, &mut out)?,
        plan => plan.is_some(),
    };
    Ok(if is_fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(
    path: &Path,
    host: &Host,
    json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> anyhow::Result<Option<Plan>> {
    let config = headwater_msk::config_file::read(path)?;
    let named_by = NamedBy::of(&config, host).and_then(|(_, by)| by.said());
    let plan = match Plan::new(config, host) {
        Ok(plan) => plan,
        Err(problems) => {
            for problem in &problems {
                writeln!(err, "{problem}")?;
            }
            writeln!(err, "{}: {} to correct", path.display(), problems.len())?;
            return Ok(None);
        }
    };
    // Secrets are in files that it names, so all of it can be shown to others.
    let effective = plan.effective();
    if json {
        serde_json::to_writer_pretty(&mut *out, &effective)?;
        writeln!(out)?;
    } else {
        if let Some(said) = named_by {
            writeln!(out, "# {said}")?;
        }
        write!(out, "{}", with_reasons(&effective)?)?;
        writeln!(out)?;
        let shares = plan.memory();
        let (all, parts) = (memory::sum(&shares), memory::said(&shares));
        writeln!(out, "# memory at most {all}: {parts}")?;
        if let Some(shares) = plan.shares().said(plan.window_bytes) {
            writeln!(out, "# of the window, {shares}")?;
        }
    }
    for source in &plan.files {
        let readable = |path: &Path| {
            File::open(path)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let found = matches(
            "file",
            source.id.as_str(),
            &source.paths,
            &source.exclude,
            readable,
        );
        found.write(json, out, err)?;
    }
    let has_journalctl = Path::new(JOURNALCTL).exists();
    for source in plan.journals.iter().filter(|_| !has_journalctl) {
        writeln!(
            err,
            "warning: journal {}: there is no {JOURNALCTL}",
            source.id
        )?;
    }
    for source in &plan.sensors {
        if let Some(command) = &source.reader.command {
            if !json {
                writeln!(out, "# sensor {} runs {command:?}", source.id)?;
            }
            continue;
        }
        let readable = |path: &Path| match source.reader.read(path) {
            // A buffer is read while the agent runs, and only then.
            Err(_) if source.reader.kind == Kind::IioBuffer => Ok(()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let found = matches("sensor", source.id.as_str(), &source.paths, &[], readable);
        found.write(json, out, err)?;
    }
    Ok(Some(plan))
}

/// What one source leads to now.
struct Matches {
    line: String,
    warnings: Vec<String>,
}

impl Matches {
    fn write(&self, json: bool, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
        if !json {
            writeln!(out, "# {}", self.line)?;
        }
        for warning in &self.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        Ok(())
    }
}

fn matches(
    kind: &str,
    id: &str,
    paths: &[Pattern],
    exclude: &[Pattern],
    readable: impl Fn(&Path) -> Result<(), String>,
) -> Matches {
    let found = scan(paths, exclude);
    let unmatched = found.unmatched.iter().map(|index| {
        let glob = &paths[*index];
        format!("{kind} {id}: {glob} matches nothing at the moment")
    });
    let troubles = found
        .troubles
        .iter()
        .map(|trouble| format!("{kind} {id}: {trouble}"));
    let unreadable = found.files.iter().filter_map(|seen| {
        let error = readable(&seen.path).err()?;
        Some(format!(
            "{kind} {id}: {} cannot be read: {error}",
            seen.path.display()
        ))
    });
    let warnings = unmatched.chain(troubles).chain(unreadable).collect();
    let count = found.files.len();
    let listed: Vec<_> = (found.files.iter())
        .take(LISTED_MAX)
        // A path is any bytes: a line break in it must not end the comment.
        .map(|seen| seen.path.display().to_string().escape_debug().to_string())
        .collect();
    let rest = match count.saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let line = match count {
        0 => format!("{kind} {id} matches nothing at the moment"),
        _ => format!(
            "{kind} {id} matches {count} now: {}{rest}",
            listed.join(", ")
        ),
    };
    Matches { line, warnings }
}

/// The configuration as TOML: above each key that has a default the reason of that default, and below
/// each section's name what it means that a setting without one is left out.
fn with_reasons(config: &ConfigFile) -> anyhow::Result<String> {
    let text = toml::to_string(config).context("the plan cannot be written as TOML")?;
    let mut explained = String::new();
    for (section, line) in in_sections(&text) {
        if let Some((key, _)) = line.split_once(" = ") {
            let key = format!("{section}{key}");
            let reasons = defaults::REASONS.iter().find(|(known, _)| *known == key);
            for reason in reasons.map_or(&[][..], |(_, lines)| lines) {
                explained.push_str(&format!("#{reason}\n"));
            }
        }
        explained.push_str(line);
        explained.push('\n');
        if line.starts_with('[') {
            let is_set = |name: &str| {
                in_sections(&text).any(|(of, line)| {
                    of == section && line.split_once(" = ").is_some_and(|(key, _)| key == name)
                })
            };
            for (key, meaning) in defaults::LEFT_OUT {
                match key.strip_prefix(section.as_str()) {
                    Some(name) if !is_set(name) => {
                        explained.push_str(&format!("# {name} is not set: {meaning}\n"));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(explained)
}

/// Each line of a TOML text with the section that it lies in, as `section.`.
fn in_sections(text: &str) -> impl Iterator<Item = (String, &str)> {
    let mut section = String::new();
    text.lines().map(move |line| {
        if let Some(header) = line.strip_prefix('[') {
            section = format!("{}.", header.trim_matches(['[', ']']));
        }
        (section.clone(), line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `check` on a configuration in which `@` stands for a folder with two logs, and returns
    /// whether it is fine, its output and its errors.
    fn checked(text: &str, json: bool) -> (bool, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        for name in ["a.log", "b.log"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let config = folder.path().join("agent.toml");
        std::fs::write(&config, text.replace('@', &at)).unwrap();
        let host = Host {
            machine_id: Some("0123".into()),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let plan = check(&config, &host, json, &mut out, &mut err).unwrap();
        let shown = |bytes| String::from_utf8(bytes).unwrap().replace(&at, "@");
        (plan.is_some(), shown(out), shown(err))
    }

    const CONFIG: &str = r#"
        [kafka]
        brokers = ["localhost:9092"]
        topic = "logs"
        options = { "compression.level" = "3" }
        [[file]]
        id = "app"
        paths = ["@/*.log", "@/none"]
        [[journal]]
        id = "journal"
        [[sensor]]
        id = "load"
        paths = ["@/a.log"]
    "#;

    #[test]
    fn a_fine_configuration_is_explained_and_can_be_used_again() {
        let (is_fine, out, err) = checked(CONFIG, false);
        assert!(is_fine);
        assert!(out.contains("state_dir = \"/var/lib/headwater\""), "{out}");
        assert!(
            out.starts_with("# device is not set: it goes by /etc/machine-id\ndevice = \"0123\"\n"),
            "{out}"
        );
        assert!(
            out.contains("# file app matches 2 now: @/a.log, @/b.log\n"),
            "{out}"
        );
        assert!(out.contains("\"compression.level\" = \"3\""));
        let shares = "# of the window, 512KiB for each of: sensors of lane normal\n";
        assert!(out.contains(shares), "{out}");
        assert_eq!(
            err,
            "warning: file app: @/none matches nothing at the moment\n\
             warning: sensor load: @/a.log cannot be read: it begins with \"\", which is no number\n"
        );
        let (again, out, err) = checked(&out, false);
        assert!(again, "{err}");
        assert!(!out.contains("device is not set"), "{out}");
    }

    #[test]
    fn each_default_is_explained_once_for_each_source() {
        let (_, out, _) = checked(CONFIG, false);
        for (key, reason) in defaults::REASONS {
            let name = key.rsplit('.').next().unwrap();
            let last = reason.last().unwrap();
            assert!(out.contains(&format!("#{last}\n{name} = ")), "{key}: {out}");
        }
    }

    #[test]
    fn what_is_left_out_is_explained_and_what_is_set_is_not() {
        let (_, out, _) = checked(CONFIG, false);
        for (key, meaning) in defaults::LEFT_OUT {
            let (section, name) = key.split_once('.').unwrap();
            let of_section = out.split(&format!("[{section}]\n")).nth(1).unwrap();
            let of_section = of_section.split("\n[").next().unwrap();
            let said = format!("# {name} is not set: {meaning}\n");
            assert!(of_section.contains(&said), "{key}: {out}");
        }
        let (_, out, _) = checked(
            &format!("{CONFIG}\n[flash]\nbytes_per_day = \"10MB\"\n"),
            false,
        );
        assert!(
            !out.contains("bytes_per_day is not set: no budget: [checkpoint]"),
            "{out}"
        );
        assert!(out.contains("# bytes_per_hour is not set"), "{out}");
    }

    #[test]
    fn json_is_json() {
        let (is_fine, out, _) = checked(CONFIG, true);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(is_fine);
        assert_eq!(value["device"], "0123");
        assert_eq!(value["file"][0]["max_line"], "128KiB");
    }

    #[test]
    fn every_problem_is_told() {
        let (is_fine, out, err) = checked(
            &CONFIG
                .replace("\"app\"", "\"a b\"")
                .replace("@/none", "none"),
            false,
        );
        assert!(!is_fine && out.is_empty());
        assert!(
            err.contains("file[0].id: ") && err.contains("file[0].paths[1]: "),
            "{err}"
        );
        assert!(err.ends_with("2 to correct\n"), "{err}");
    }
}
