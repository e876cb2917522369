//! What a program prints. It is run without a shell, with nothing to read, in a process group of its
//! own: when it has ended, or takes too long, whatever it started in its turn ends as well. Its output
//! is bounded, and read without a thread: nothing of ours waits for a pipe that somebody holds open. Where
//! it fails, what it said last on its standard error is told.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{DOCUMENT_BYTES_MAX, ReadError};
use crate::clock::{Monotonic, monotonic};
use crate::last_words::Stderr;

/// How long a command may take. The other sensors wait for it.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether a command has printed more, or has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command, and returns what it printed.
///
/// # Errors
/// It cannot be run, fails, takes too long or prints too much.
pub fn run(command: &[String]) -> Result<Vec<u8>, ReadError> {
    run_within(command, COMMAND_TIME_MAX)
}

fn failed(what: impl Into<String>) -> ReadError {
    ReadError::Command(what.into())
}

fn run_within(command: &[String], time: Duration) -> Result<Vec<u8>, ReadError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(failed("is empty"));
    };
    let until = monotonic().plus(time);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let stderr = Stderr::of(&mut child);
    let mut group = Group {
        child,
        stderr,
        over: false,
    };
    let output = group.printed(until)?;
    while !group.has_ended() {
        group.stderr.look();
        if monotonic() >= until {
            return Err(group.failed(&format!("took longer than {time:?}, and was ended")));
        }
        std::thread::sleep(LOOK);
    }
    let status = group.end().map_err(ReadError::Unreadable)?;
    match status.success() {
        true => Ok(output),
        false => Err(group.failed(&format!("failed: {status}"))),
    }
}

/// A program and what it has started: all of it ends with this.
struct Group {
    child: Child,
    stderr: Stderr,
    /// Its end was waited for: its number may be another's.
    over: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl Group {
    fn id(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// That it failed, and what it said of that.
    fn failed(&mut self, how: &str) -> ReadError {
        failed(self.stderr.with(how))
    }

    /// Whether the program itself has ended. It stays as it is: as long as its end was not waited for,
    /// nobody else can have its number.
    fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = self.id().map(|id| waitid(WaitId::Pid(id), look));
        !matches!(ended, Some(Ok(None)))
    }

    /// Ends what has not ended yet.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.over
            && let Some(group) = self.id()
        {
            self.over = true;
            // Without anybody in it there is nobody to end.
            if let Err(error) = kill_process_group(group, Signal::KILL) {
                tracing::debug!(%error, "cannot end what a command started");
            }
        }
        self.child.wait()
    }

    /// Everything that it prints until it ends, or closes its output.
    fn printed(&mut self, until: Monotonic) -> Result<Vec<u8>, ReadError> {
        let stdout = self.child.stdout.take();
        let mut stdout = stdout.ok_or_else(|| failed("has no output"))?;
        fcntl_setfl(&stdout, OFlags::NONBLOCK)
            .map_err(|error| ReadError::Unreadable(error.into()))?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            // Asked first: what it had printed when it had ended is there to be read.
            let has_ended = self.has_ended();
            self.stderr.look();
            match stdout.read(&mut piece) {
                Ok(0) => return Ok(bytes),
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(ReadError::Unreadable(error));
                }
                // What it has started holds the pipe.
                Err(_) if has_ended => return Ok(bytes),
                Err(_) if monotonic() >= until => {
                    return Err(self.failed("took too long, and was ended"));
                }
                Err(_) => std::thread::sleep(LOOK),
            }
            if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(failed("prints more than 64 KiB, and was ended"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str, time: Duration) -> Result<Vec<u8>, String> {
        let command = ["/bin/sh", "-c", script].map(String::from);
        run_within(&command, time).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_printed_is_read_or_said_why_not() {
        let long = Duration::from_secs(60);
        assert_eq!(
            run_shell("echo 12.5; echo no >&2", long),
            Ok(b"12.5\n".to_vec())
        );
        assert!(
            run_shell("echo 1; exit 3", long)
                .unwrap_err()
                .contains("exit status: 3")
        );
        assert!(run_shell("yes", long).unwrap_err().contains("64 KiB"));
        let none = run_within(&["/none/such".to_owned()], long).unwrap_err();
        assert!(none.to_string().starts_with("the command cannot be run"));
    }

    /// Whether a process is there, and not only waits to be asked how it ended.
    fn lives(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| !state.starts_with('Z'))
    }

    #[test]
    fn what_a_command_leaves_behind_holds_nothing_and_ends_with_it() {
        let long = Duration::from_secs(60);
        let dir = tempfile::tempdir().unwrap();
        let noted = dir.path().join("pid");
        let noting = format!("sleep 600 & echo $! > {}", noted.display());
        for (then, output) in [("echo 7", Ok(b"7\n".to_vec())), ("exec yes", Err(()))] {
            let printed = run_shell(&format!("{noting}; {then}"), long);
            assert_eq!(printed.map_err(drop), output);
            let pid = std::fs::read_to_string(&noted).unwrap();
            let until = monotonic().plus(long);
            while lives(pid.trim()) {
                assert!(monotonic() < until, "{then}: {pid} lives");
                std::thread::sleep(LOOK);
            }
        }
    }

    #[test]
    fn what_a_command_says_when_it_fails_is_told_and_holds_nothing_up() {
        let long = Duration::from_secs(60);
        // More than a pipe holds, and then why.
        let script = "head -c 200000 /dev/zero | tr '\\0' '\\n' >&2; printf 'first\\n\\033[1mno bus 7\\n' >&2; exit 3";
        assert_eq!(
            run_shell(script, long).unwrap_err(),
            "the command failed: exit status: 3; it said: \\u{1b}[1mno bus 7"
        );
        assert_eq!(
            run_shell("exit 3", long).unwrap_err(),
            "the command failed: exit status: 3"
        );
        let script = "echo waits for the bus >&2; exec sleep 600";
        let error = run_shell(script, Duration::from_millis(500)).unwrap_err();
        assert!(error.ends_with("; it said: waits for the bus"), "{error}");
        // Something that it started holds its standard error.
        let error = run_shell("echo why >&2; sleep 600 & exit 3", long).unwrap_err();
        assert!(error.ends_with("; it said: why"), "{error}");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let short = Duration::from_millis(50);
        for script in ["exec sleep 600", "exec >&-; exec sleep 600"] {
            assert!(
                run_shell(script, short).unwrap_err().contains("took"),
                "{script}"
            );
        }
    }
}
