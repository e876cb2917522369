//! What steady little writing costs the flash: the agent's own writes, as the kernel counts them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use headwater_tests::loading::Loading;

use super::Bench;
use super::measure::{Used, as_f64, end};

/// How long: five checkpoints.
const SECONDS: u32 = 300;

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
    for second in 0..SECONDS {
        for (rate, path, _) in &devices {
            let mut out = OpenOptions::new().create(true).append(true).open(path);
            let out = out.as_mut().expect("the folder is ours");
            for line in 0..rate / 200 {
                writeln!(out, "{:0>199}", u64::from(second) << 32 | u64::from(line))
                    .expect("there is room for it");
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    for (rate, path, agent) in devices {
        let used = Used::by(agent.pid());
        let read = fs::metadata(path).expect("it was written").len();
        println!(
            "| {rate} B | {:.4} | {:.1} | {:.1} |",
            as_f64(used.written) / as_f64(read),
            as_f64(used.written) * 86_400.0 / f64::from(SECONDS) / 1e6,
            used.cpu * 3600.0 / f64::from(SECONDS)
        );
        end(&agent);
    }
}
