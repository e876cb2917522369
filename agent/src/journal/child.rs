//! `journalctl`, running: its output in pieces of whole lines, bounded, and its end.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::last_words::Stderr;
use crate::stop::Stop;

/// What is read at a time, bytes.
const READ_BYTES: usize = 64 * 1024;
/// Longest line that is kept: an entry's message may be of any length, a record may not.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Pieces that wait; when they do, journalctl waits, too.
const PIECES: usize = 2;
/// What all of it takes at most, bytes: pieces that wait, one that is being made, and one that is read,
/// of which an entry is a row besides.
pub const BYTES_MAX: usize = (PIECES + 3) * (LINE_BYTES_MAX + READ_BYTES);

/// A piece of the output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Whole lines.
    Lines(Vec<u8>),
    /// A line above the limit was skipped here.
    TooLong,
    /// There is no more.
    Ended,
}

/// A running journalctl; ended when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    output: Receiver<Output>,
    stderr: Stderr,
}

impl Running {
    /// Starts `program`. `stop` is woken when there is output.
    pub(super) fn start(program: &Path, arguments: &[String], stop: &Stop) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, output) = sync_channel(PIECES);
        let stdout = child.stdout.take();
        let stderr = Stderr::of(&mut child);
        let mut running = Self {
            child,
            output,
            stderr,
        };
        let Some(stdout) = stdout else {
            running.end();
            return Err(io::Error::other("it has no output"));
        };
        let stop = stop.clone();
        std::thread::Builder::new()
            .name("journalctl".into())
            .spawn(move || forward(stdout, &sender, &stop))?;
        Ok(running)
    }

    /// The next piece, if there is one now.
    pub(super) fn next(&mut self) -> Option<Output> {
        self.stderr.look();
        match self.output.try_recv() {
            Ok(output) => Some(output),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Output::Ended),
        }
    }

    /// Ends it, and says how it ended, where it had by itself, and what it said of that.
    pub(super) fn end(&mut self) -> Option<String> {
        let ended = self.child.try_wait().ok().flatten();
        drop(self.child.kill());
        drop(self.child.wait());
        ended.map(|status| self.stderr.with(&status.to_string()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads to the end, or until nobody listens.
fn forward(mut stdout: impl Read, sender: &SyncSender<Output>, stop: &Stop) {
    let mut lines = Whole::default();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let read = match stdout.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for output in lines.take(&piece[..read]) {
            if sender.send(output).is_err() {
                return;
            }
            stop.wake();
        }
    }
    drop(sender.send(Output::Ended));
    stop.wake();
}

/// Cuts output into whole lines.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    rest: Vec<u8>,
    /// The line under way is above the limit.
    skipping: bool,
}

impl Whole {
    /// The whole lines that end in the next piece of the output.
    pub(crate) fn take(&mut self, mut piece: &[u8]) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.skipping {
            let Some(end) = memchr::memchr(b'\n', piece) else {
                return outputs;
            };
            self.skipping = false;
            piece = &piece[end + 1..];
        }
        self.rest.extend_from_slice(piece);
        if let Some(end) = memchr::memrchr(b'\n', &self.rest) {
            let rest = self.rest.split_off(end + 1);
            outputs.push(Output::Lines(std::mem::replace(&mut self.rest, rest)));
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest = Vec::new();
            self.skipping = true;
            outputs.push(Output::TooLong);
        }
        outputs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn how_it_ended_is_told_with_what_it_said() {
        let ended = |script: &str| {
            let arguments = ["-c", script].map(String::from);
            let stop = Stop::new();
            let mut running = Running::start(Path::new("/bin/sh"), &arguments, &stop).unwrap();
            while running.next() != Some(Output::Ended) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            // It may have closed its output, and not be gone yet.
            let until = std::time::Duration::from_millis(5);
            while running.child.try_wait().unwrap().is_none() {
                std::thread::sleep(until);
            }
            running.end()
        };
        assert_eq!(
            ended("echo 'Failed to parse timestamp: typo' >&2; exit 1").unwrap(),
            "exit status: 1; it said: Failed to parse timestamp: typo"
        );
        // More than a pipe holds, before its output ends.
        let much = "head -c 200000 /dev/zero | tr '\\0' '\\n' >&2; echo corrupt >&2; exit 1";
        assert_eq!(ended(much).unwrap(), "exit status: 1; it said: corrupt");
        assert_eq!(ended("exit 1").unwrap(), "exit status: 1");
    }

    fn lines(pieces: &[&[u8]]) -> (Vec<u8>, usize) {
        let mut whole = Whole::default();
        let (mut all, mut too_long) = (Vec::new(), 0);
        for output in pieces.iter().flat_map(|piece| whole.take(piece)) {
            match output {
                Output::Lines(lines) => {
                    assert!(lines.ends_with(b"\n"));
                    all.extend(lines);
                }
                Output::TooLong => too_long += 1,
                Output::Ended => unreachable!("it does not end by itself"),
            }
        }
        (all, too_long)
    }

    #[test]
    fn a_line_above_the_limit_is_skipped_and_said() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        let pieces: [&[u8]; 5] = [b"a\nb", &long, b"x", b"x\nc\nd", b"\n"];
        assert_eq!(lines(&pieces), (b"a\nc\nd\n".to_vec(), 1));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_lines_are_the_same(
            text in "[ab\n]{0,60}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            prop_assert_eq!(lines(&pieces), (text.as_bytes()[..whole].to_vec(), 0));
        }
    }
}
