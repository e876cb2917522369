//! Files to read: logs as services write them, and such as hardly compress.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Files of one input.
pub(crate) struct Input {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

impl Input {
    /// A log of a service, over `files` files in a folder of their own: what changes from line to line
    /// is small, as in life, since compression decides what uplink and flash have to carry. Each line
    /// is of `line_bytes`, its newline included.
    pub(crate) fn service(folder: &Path, files: u64, lines: u64, line_bytes: usize) -> Self {
        let folder = folder.join(format!("service-{files}-{lines}-{line_bytes}"));
        let mut state = Noise(1);
        Self::write(&folder, files, lines, |n, line| {
            let r = state.next();
            line.clear();
            write!(
                line,
                "2026-11-24T{:02}:{:02}:{:02}.{:03}Z gateway-7 telemetryd[{}]: request id={n} from=10.0.{}.{} \
                 method=GET path=/api/v1/meters/{}/readings status={} bytes={} took={}ms upstream=collector-{}",
                n / 3_600_000 % 24, n / 60_000 % 60, n / 1000 % 60, n % 1000, 800 + r % 4, r % 16, r / 16 % 256,
                r % 5000, [200, 200, 200, 304, 404][usize::try_from(r % 5).unwrap_or(0)], r % 4096, r % 250, r % 3
            )
            .expect("a line is in memory");
            let mut key = 0_u64;
            while line.len() + 1 < line_bytes {
                key += 1;
                write!(line, " k{key}={}", state.next() % 1000).expect("a line is in memory");
            }
            line.truncate(line_bytes - 1);
        })
    }

    /// One file of lines of 1 KiB that compress by a quarter: for a large spool.
    pub(crate) fn random(folder: &Path, bytes: u64) -> Self {
        let folder = folder.join("random");
        let mut state = Noise(7);
        Self::write(&folder, 1, bytes / 1024, |n, line| {
            line.clear();
            write!(line, "{n} ").expect("a line is in memory");
            while line.len() < 1023 {
                let r = state.next();
                line.extend((0..5).map(|i| b'0' + u8::try_from(r >> (6 * i) & 63).unwrap_or(0)));
            }
            line.truncate(1023);
        })
    }

    fn write(
        folder: &Path,
        files: u64,
        lines: u64,
        mut line_of: impl FnMut(u64, &mut Vec<u8>),
    ) -> Self {
        fs::create_dir_all(folder).expect("a new folder");
        let mut line = Vec::new();
        let paths = (0..files).map(|file| {
            let path = folder.join(format!("{file:04}.log"));
            let mut out =
                BufWriter::with_capacity(1 << 20, File::create(&path).expect("a new file"));
            for n in file * lines / files..(file + 1) * lines / files {
                line_of(n, &mut line);
                line.push(b'\n');
                out.write_all(&line).expect("there is room for it");
            }
            out.flush().expect("there is room for it");
            path
        });
        let files: Vec<PathBuf> = paths.collect();
        let bytes = files
            .iter()
            .map(|path| fs::metadata(path).expect("it was written").len());
        Self {
            bytes: bytes.sum(),
            lines,
            files,
        }
    }

    /// The same lines in a folder beside, behind a first one of 1 KiB that makes it another file.
    pub(crate) fn again(&self, nth: u64) -> Self {
        let path = self.files.first().expect("an input has a file");
        let folder = path.parent().expect("it has a folder");
        let folder = folder.with_file_name(format!("again-{nth}"));
        fs::create_dir_all(&folder).expect("a new folder");
        let again = folder.join("0000.log");
        let mut out = File::create(&again).expect("a new file");
        writeln!(out, "{nth:0>1023}").expect("there is room for it");
        let mut lines = File::open(path).expect("it was written");
        std::io::copy(&mut lines, &mut out).expect("there is room for it");
        Self {
            files: vec![again],
            lines: self.lines + 1,
            bytes: self.bytes + 1024,
        }
    }

    /// A glob that matches all of them.
    pub(crate) fn glob(&self) -> String {
        let folder = self.files.first().and_then(|path| path.parent());
        format!("{}/*.log", folder.expect("an input has a file").display())
    }

    /// Removes the files.
    pub(crate) fn remove(self) {
        let folder = self.files.first().and_then(|path| path.parent());
        fs::remove_dir_all(folder.expect("an input has a file")).expect("they were ours");
    }
}

/// A linear congruential generator (Knuth's MMIX): the same input in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}
