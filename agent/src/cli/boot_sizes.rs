//! `headwater-agent boot-sizes`: writes down how long the followed files are, early in a boot, before programs write
//! to them ([`crate::discover::sizes`]).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::load_plan;
use crate::clock;
use crate::config::Plan;
use crate::discover::scan;
use crate::discover::sizes::{BYTES_MAX, Sizes, without_nuls};
use crate::tail::content;

/// So long after the system's start it is early: services that write logs have hardly begun.
const EARLY: Duration = Duration::from_secs(120);

/// Runs it. `late`: whenever that is.
///
/// # Errors
/// The configuration is refused, it is late, or the file cannot be written.
pub fn run(config: &Path, late: bool) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    let boot_id = clock::boot_id()
        .ok_or_else(|| anyhow!("the system does not name its boot: /proc is not there"))?;
    let mut out = io::stdout().lock();
    let noted = fs::read_to_string(&plan.boot_sizes).unwrap_or_default();
    if noted.lines().next() == Some(&boot_id) {
        // What was written since is new.
        writeln!(
            out,
            "{}: noted in this boot already",
            plan.boot_sizes.display()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let since_boot = Duration::from_millis(clock::since_boot_ms());
    if since_boot > EARLY && !late {
        return Err(anyhow!(
            "the system was started {} s ago, and programs have written to their logs since: after a power cut that \
             would be taken for what was there before, and lost; --late notes the lengths all the same, where no \
             program has written yet",
            since_boot.as_secs()
        ));
    }
    let sizes = sizes_of(&plan);
    let path = &plan.boot_sizes;
    write(path, &sizes.text(&boot_id)).with_context(|| {
        format!(
            "cannot write {} (boot_sizes): the agent sends once more, after a power cut, what it had sent of files \
             since its last checkpoint",
            path.display()
        )
    })?;
    writeln!(
        out,
        "{}: the lengths of {} files",
        path.display(),
        sizes.len()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn sizes_of(plan: &Plan) -> Sizes {
    let mut sizes = Sizes::default();
    for source in &plan.files {
        for seen in scan(&source.paths, &source.exclude).files {
            // Of what cannot be read nothing is known.
            if let Ok((place, Some(len))) = length_of(&seen.path) {
                sizes.insert(place, len);
            }
        }
    }
    sizes
}

/// Device and inode of a file, and how long it is, bytes.
fn length_of(path: &Path) -> io::Result<((u64, u64), Option<u64>)> {
    let file = content::open(path)?;
    let looks = file.metadata()?;
    let len = match looks.is_file() {
        true => without_nuls(&file, looks.len())?,
        false => None,
    };
    Ok(((looks.dev(), looks.ino()), len))
}

/// Nobody sees half of it: a file that is missing says less than one that is wrong.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if text.len() as u64 > BYTES_MAX {
        return Err(anyhow!("more files than the agent takes lengths of"));
    }
    let fresh = path.with_added_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = File::options();
    let mut file = (options.write(true).create(true).truncate(true))
        .mode(0o644)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, path)?;
    Ok(())
}
