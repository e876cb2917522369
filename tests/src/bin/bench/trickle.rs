//! What steady little writing costs the flash: the agent's own writes, as the kernel counts them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_tests::loading::Loading;
use headwater_tests::process::Process;

use super::Bench;
use super::measure::{Used, as_f64, end};

/// Before anything is counted: the database is made, and the first checkpoint written.
const WARM_UP: u32 = 330;

/// How long is counted: two checkpoints where little comes, ten where more does.
const SECONDS: u32 = 600;

pub(crate) fn run(bench: &Bench) {
    println!(
        "\n| online, written a second | to flash a byte read | MB to flash a day | CPU s an hour |"
    );
    println!("|---|---|---|---|");
    let rates: [u32; 2] = [1_000, 100_000];
    let devices = rates.map(|rate| {
        let folder = bench.folder.join(format!("trickle-{rate}"));
        fs::create_dir_all(&folder).expect("a new folder");
        let loading = Loading::new(&bench.kafka, &bench.s3, "trickle", 1);
        let glob = format!("{}/*.log", folder.display());
        (rate, folder.join("a.log"), bench.agent(&loading, &glob, ""))
    });
    for second in 0..WARM_UP {
        write_all(&devices, second);
    }
    let before = devices.each_ref().map(|(_, path, agent)| at(path, agent));
    for second in WARM_UP..WARM_UP + SECONDS {
        write_all(&devices, second);
    }
    for ((rate, path, agent), (used_before, read_before)) in devices.into_iter().zip(before) {
        let (used, read) = at(&path, &agent);
        let written = as_f64(used.written - used_before.written);
        println!(
            "| {rate} B | {:.4} | {:.1} | {:.1} |",
            written / as_f64(read - read_before),
            written * 86_400.0 / f64::from(SECONDS) / 1e6,
            (used.cpu - used_before.cpu) * 3600.0 / f64::from(SECONDS)
        );
        end(&agent);
    }
}

/// What an agent has used so far, and how much it was given.
fn at(path: &Path, agent: &Process) -> (Used, u64) {
    let read = fs::metadata(path).expect("it was written").len();
    (Used::by(agent.pid()), read)
}

/// A second's lines for each.
fn write_all(devices: &[(u32, PathBuf, Process)], second: u32) {
    for (rate, path, _) in devices {
        let mut out = OpenOptions::new().create(true).append(true).open(path);
        let out = out.as_mut().expect("the folder is ours");
        for line in 0..rate / 200 {
            // As programs do: a line is one write.
            let line = format!("{:0>199}\n", u64::from(second) << 32 | u64::from(line));
            out.write_all(line.as_bytes())
                .expect("there is room for it");
        }
    }
    std::thread::sleep(Duration::from_secs(1));
}
