//! `headwater-agent boot-sizes`: writes down how long the followed files are, early in a boot, before programs write
//! to them ([`crate::discover::sizes`]).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::load_plan;
use crate::clock;
use crate::config::Plan;
use crate::discover::scan;
use crate::discover::sizes::{BYTES_MAX, Sizes};

/// Runs it.
///
/// # Errors
/// The configuration is refused, or the file cannot be written.
pub fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let plan = load_plan(config)?;
    let boot_id = clock::boot_id()
        .ok_or_else(|| anyhow!("the system does not name its boot: /proc is not there"))?;
    let sizes = sizes_of(&plan);
    let path = &plan.boot_sizes;
    write(path, &sizes.text(&boot_id)).with_context(|| {
        format!(
            "cannot write {} (boot_sizes): the agent sends once more, after a power cut, what it had sent of files \
             since its last checkpoint",
            path.display()
        )
    })?;
    let mut out = io::stdout().lock();
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
            if let Some(looks) = seen.looks {
                sizes.insert((seen.device, seen.inode), looks.len);
            }
        }
    }
    sizes
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
