//! `headwater-agent check --explain PATH`: which source follows a file, by what it is known and how
//! far it is read; or why it is not followed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use super::load_plan;
use crate::checkpoint::{OpenGeneration, Origin};
use crate::config::{FileSource, Plan};
use crate::discover::{identity, look_at, matches};
use crate::spool::peek;
use crate::tail::opened::Opened;
use crate::tail::siblings::{are_of_one_log, path_of};

/// Explains `path` on standard output. Exit code 0 where a source follows it, 1 where none does.
///
/// # Errors
/// The configuration is refused, or the output cannot be written.
pub fn run(config: &Path, path: &Path) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    Ok(match explain(&plan, path, &mut io::stdout().lock())? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Explains `path` to `out`. Returns whether a source follows it.
///
/// # Errors
/// The output cannot be written.
pub fn explain(plan: &Plan, path: &Path, out: &mut impl Write) -> io::Result<bool> {
    let shown = path.display().to_string().escape_debug().to_string();
    if !path.is_absolute() {
        writeln!(
            out,
            "{shown}: not absolute, as no glob of a source is; begin it with '/'"
        )?;
        return Ok(false);
    }
    match look_at(path.to_owned()) {
        Err(trouble) => {
            writeln!(out, "{trouble}")?;
            return Ok(false);
        }
        Ok(None) => {
            writeln!(out, "{shown}: there is no such file")?;
            return Ok(false);
        }
        Ok(Some(_)) => {}
    }
    let mut opened = match Opened::new(path) {
        Ok(opened) => opened,
        Err(error) => {
            writeln!(
                out,
                "{shown}: cannot be read: {error}; check its rights and its folders'"
            )?;
            return Ok(false);
        }
    };
    write_identity(&opened, &shown, out)?;
    if let Some(how) = opened.foreign() {
        writeln!(
            out,
            "  it is compressed by {how}, which is not read: passed over"
        )?;
        return Ok(false);
    }
    let known = peek::generations(&plan.state_dir);
    if let Err(why) = &known {
        writeln!(
            out,
            "  the database of {} cannot be looked at: {why}",
            plan.state_dir.display()
        )?;
    }
    let known = known.unwrap_or_default();
    let mut is_followed = false;
    for source in &plan.files {
        if !write_match(source, path, out)? {
            write_family(source, path, &known, out)?;
            continue;
        }
        is_followed = true;
        write_state(source, &mut opened, &known, out)?;
    }
    if !is_followed {
        writeln!(out, "  no source follows it")?;
    }
    Ok(is_followed)
}

fn write_identity(opened: &Opened, shown: &str, out: &mut impl Write) -> io::Result<()> {
    let (len, sum) = identity::fingerprint(opened.head());
    let packed = match opened.is_packed() {
        true => ", compressed: read as what it holds",
        false => "",
    };
    writeln!(
        out,
        "{shown}: device {}, inode {}, {} bytes{packed}; fingerprint {sum:08x} over {len} bytes",
        opened.device, opened.inode, opened.packed_size
    )
}

/// Says whether a source's globs lead to the path, and returns it.
fn write_match(source: &FileSource, path: &Path, out: &mut impl Write) -> io::Result<bool> {
    let id = &source.id;
    let Some(glob) = matches(&source.paths, path) else {
        writeln!(out, "  source {id}: none of its globs matches")?;
        return Ok(false);
    };
    if let Some(exclude) = matches(&source.exclude, path) {
        writeln!(
            out,
            "  source {id}: {glob} matches, and exclude {exclude} takes it out"
        )?;
        return Ok(false);
    }
    writeln!(out, "  source {id}: {glob} matches")?;
    Ok(true)
}

/// Says what the database knows of a file.
fn write_state(
    source: &FileSource,
    opened: &mut Opened,
    known: &[OpenGeneration],
    out: &mut impl Write,
) -> io::Result<()> {
    let of_source = known
        .iter()
        .filter(|open| open.stream.source() == source.id.as_str());
    for open in of_source {
        let Origin::File(identity) = &open.origin else {
            continue;
        };
        let is_it = opened.is_at(identity, open.marker.as_ref()) || opened.begins_as(identity);
        if !is_it {
            continue;
        }
        let marker = match (&open.marker, opened.has(open.marker.as_ref())) {
            (None, _) => "no marker yet",
            (Some(_), true) => "its marker is found",
            (Some(_), false) => "its marker is not found: it was cut, or is another file",
        };
        // What is skipped is settled under another generation, or was not to be read.
        let (settled, size) = (open.read_from(), opened.end());
        return writeln!(
            out,
            "    generation {}, stream {}; settled to offset {settled} of {size}, {} bytes behind; {marker}",
            open.generation,
            open.stream,
            size.saturating_sub(settled)
        );
    }
    writeln!(
        out,
        "    not known yet: a running agent finds it within {:?}, and reads it from its {}",
        source.rescan,
        match source.start_at {
            crate::config::file::StartAt::Beginning => "first byte",
            crate::config::file::StartAt::End => "end, if it was there at the first start",
        }
    )
}

/// A rotated file that no glob leads to is read all the same, as far as it belongs to a log.
fn write_family(
    source: &FileSource,
    path: &Path,
    known: &[OpenGeneration],
    out: &mut impl Write,
) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let of_source = known
        .iter()
        .filter(|open| open.stream.source() == source.id.as_str());
    for open in of_source {
        if let Origin::File(identity) = &open.origin
            && path.as_os_str().as_bytes() != identity.path.as_slice()
            && are_of_one_log(&path_of(identity), &path)
        {
            return writeln!(
                out,
                "    a rotated file of {}: read as far as it holds what that log had left to read",
                path_of(identity).display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    #[test]
    fn a_file_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.log", "b.log", "c.txt"] {
            fs::write(at(name), "one\n").unwrap();
        }
        let config = format!(
            "device = \"d\"\nstate_dir = \"{0}/state\"\n[kafka]\nbrokers = [\"localhost:9092\"]\n\
             topic = \"logs\"\n[[file]]\nid = \"app\"\npaths = [\"{0}/*.log\"]\nexclude = [\"{0}/b*\"]\n",
            folder.path().display()
        );
        let plan = headwater_msk::config_file::parse(&config).unwrap();
        let plan = Plan::new(plan, &Host::default()).unwrap();
        let explained = |path: &Path| {
            let mut out = Vec::new();
            let is_followed = explain(&plan, path, &mut out).unwrap();
            (is_followed, String::from_utf8(out).unwrap())
        };
        let check = |path: &Path, is_followed: bool, words: &[&str]| {
            let (followed, text) = explained(path);
            assert_eq!(followed, is_followed, "{text}");
            for word in words {
                assert!(text.contains(word), "{word:?} is not in {text}");
            }
        };
        fs::write(at("x.log"), b"\xfd7zXZ\0 and so on").unwrap();
        check(
            &at("x.log"),
            false,
            &["it is compressed by xz, which is not read"],
        );
        check(
            &at("a.log"),
            true,
            &[
                "*.log matches",
                "not known yet",
                "over 4 bytes",
                "cannot be looked at",
            ],
        );
        check(
            &at("b.log"),
            false,
            &["takes it out", "no source follows it"],
        );
        check(&at("c.txt"), false, &["none of its globs matches"]);
        check(&at("none.log"), false, &["no such file"]);
        check(folder.path(), false, &["directory"]);
        check(Path::new("a.log"), false, &["not absolute"]);
    }
}
