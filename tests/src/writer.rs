//! Writes numbered lines to a file the way programs and log rotation do, and knows what it wrote.
//!
//! A line is `<file-id>:<ten digits> <payload>`, the payload 100 to 200 characters that follow from
//! seed, id and number alone: the oracle makes every line again without keeping any. An id must not
//! be used twice in a test.

use crate::clock;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=";

/// Complete lines are handed to the kernel in pieces of about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// Returns line `number` of file `id`, without its line feed.
pub fn line(seed: u64, id: &str, number: u64) -> String {
    let mut state = id
        .bytes()
        .fold(seed ^ number.rotate_left(32), |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
    // SplitMix64 (Steele, Lea, Flood 2014): 64 bits, so ten letters, a step.
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    let length = 100 + usize::try_from(next() % 101).unwrap_or(0);
    let mut text = format!("{id}:{number:010} ");
    let full = text.len() + length;
    while text.len() < full {
        let mut bits = next();
        for _ in 0..10 {
            let letter = LETTERS[usize::try_from(bits % 64).unwrap_or(0)];
            text.push(char::from(letter));
            bits /= 64;
        }
    }
    text.truncate(full);
    // A line never ends in a space: a reader that trims would look like a loss.
    if text.ends_with(' ') {
        text.pop();
        text.push('.');
    }
    text
}

/// A program that logs to one path.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    id: String,
    seed: u64,
    written: u64,
    rate: Option<u32>,
    in_pieces: bool,
    file: Option<File>,
}

impl Writer {
    /// A writer for `path`; the file is created by its first line.
    pub fn new(path: impl Into<PathBuf>, id: &str, seed: u64) -> Self {
        Self {
            path: path.into(),
            id: id.to_owned(),
            seed,
            written: 0,
            rate: None,
            in_pieces: false,
            file: None,
        }
    }

    /// Writes at most that many lines a second.
    #[must_use]
    pub fn rate(mut self, lines_per_second: u32) -> Self {
        assert!(lines_per_second > 0, "a rate of 0 would never end");
        self.rate = Some(lines_per_second);
        self
    }

    /// Writes each line in two system calls, cut anywhere, so that readers see half lines.
    #[must_use]
    pub fn in_pieces(mut self) -> Self {
        self.in_pieces = true;
        self
    }

    /// The path that it writes to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many lines it has written, over all rotations.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Every line that it has written, in order.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.written).map(|number| line(self.seed, &self.id, number))
    }

    /// Appends `count` lines.
    ///
    /// # Panics
    /// If the disk refuses.
    pub fn write(&mut self, count: u64) {
        let start = clock::now();
        let mut chunk = Vec::new();
        for done in 0..count {
            let from = chunk.len();
            chunk.extend_from_slice(line(self.seed, &self.id, self.written).as_bytes());
            chunk.push(b'\n');
            self.written += 1;
            if self.in_pieces {
                // Any place in the line, the one before the line feed included.
                let cut =
                    from + usize::try_from(self.written * 7919).unwrap_or(0) % (chunk.len() - from);
                self.put(&chunk[..cut]);
                if self.written.is_multiple_of(16) {
                    sleep(Duration::from_millis(1));
                }
                chunk.drain(..cut);
            }
            if self.in_pieces || self.rate.is_some() || chunk.len() >= CHUNK_BYTES {
                self.put(&chunk);
                chunk.clear();
            }
            self.keep_rate(start, done + 1);
        }
        self.put(&chunk);
    }

    /// Appends bytes that are no line of ours and are not counted.
    pub fn write_raw(&mut self, bytes: &[u8]) {
        self.put(bytes);
    }

    /// Rotates by rename: `log.1` becomes `log.2` and so on, `log` becomes `log.1`; the next line
    /// goes to a new file.
    pub fn rotate(&mut self) {
        let mut last = 1;
        while self.sibling(last).exists() {
            last += 1;
        }
        for number in (1..last).rev() {
            rename(&self.sibling(number), &self.sibling(number + 1));
        }
        rename(&self.path, &self.sibling(1));
        self.file = None;
    }

    /// Rotates like `logrotate`'s `copytruncate`: copies to `log.1`, truncates in place.
    pub fn copytruncate(&mut self) {
        fs::copy(&self.path, self.sibling(1)).expect("a log can be copied");
        self.open().set_len(0).expect("a log can be truncated");
    }

    /// Deletes the file; the next line goes to a new one.
    pub fn delete(&mut self) {
        fs::remove_file(&self.path).expect("a log can be deleted");
        self.file = None;
    }

    /// Goes on writing on a thread of its own until [`Background::stop`], rotating by rename after
    /// every `rotate_every` lines if that is not 0. Set a [`rate`](Self::rate) first.
    pub fn in_background(mut self, rotate_every: u64) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                self.write(1);
                if rotate_every > 0 && self.written.is_multiple_of(rotate_every) {
                    self.rotate();
                }
            }
            self
        });
        Background { stop, thread }
    }

    fn keep_rate(&self, start: Instant, done: u64) {
        let Some(rate) = self.rate else {
            return;
        };
        let due = Duration::from_micros(done * 1_000_000 / u64::from(rate));
        if let Some(early) = due.checked_sub(start.elapsed()) {
            sleep(early);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.open().write_all(bytes).expect("a log can be written");
        }
    }

    fn open(&mut self) -> &mut File {
        let path = &self.path;
        self.file.get_or_insert_with(|| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
        })
    }

    fn sibling(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to)
        .unwrap_or_else(|error| panic!("cannot rename {}: {error}", from.display()));
}

/// A writer at work.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Writer>,
}

impl Background {
    /// Lets it finish its line and gives the writer back.
    pub fn stop(self) -> Writer {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer did not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_follow_from_seed_id_and_number() {
        assert_eq!(line(1, "a", 5), line(1, "a", 5));
        assert_ne!(line(1, "a", 5)[13..], line(2, "a", 5)[13..]);
        for number in 0..1000 {
            let payload = line(7, "web", number).len() - "web:0000000000 ".len();
            assert!((100..=200).contains(&payload), "{payload}");
        }
    }

    #[test]
    fn every_way_to_write_keeps_every_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let mut writer = Writer::new(&path, "a", 1);
        writer.write(500);
        writer.rotate();
        let mut writer = Writer {
            in_pieces: true,
            ..writer
        };
        writer.write(50);
        writer.rotate();
        writer.write(50);
        let mut found = read(&folder.path().join("app.log.2"));
        found.extend(read(&folder.path().join("app.log.1")));
        writer.copytruncate();
        found.extend(read(&folder.path().join("app.log.1")));
        let writer = writer.rate(1000).in_background(0);
        // Its thread gets a core when there is one.
        let is_empty = || fs::metadata(&path).is_ok_and(|now| now.len() == 0);
        (0..1000)
            .take_while(|_| is_empty())
            .for_each(|_| sleep(Duration::from_millis(10)));
        let writer = writer.stop();
        found.extend(read(&path));
        assert!(writer.written() > 600);
        // The copy took the place of the first rename's file, which was read before.
        assert!(writer.lines().eq(found));
    }
}
