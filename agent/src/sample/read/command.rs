//! What a program prints. It is run without a shell, with nothing to read, and ended where it takes
//! too long; its output is bounded.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::{DOCUMENT_BYTES_MAX, ReadError};
use crate::clock::{Monotonic, monotonic};

/// How long a command may take. The other sensors wait for it.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether a command that printed everything has ended, too.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command, and returns what it printed.
///
/// # Errors
/// It cannot be run, fails, takes too long or prints too much.
pub fn run(command: &[String]) -> Result<Vec<u8>, ReadError> {
    run_within(command, COMMAND_TIME_MAX)
}

fn run_within(command: &[String], time: Duration) -> Result<Vec<u8>, ReadError> {
    let failed = |what: String| ReadError::Command(what);
    let Some((program, arguments)) = command.split_first() else {
        return Err(failed("is empty".into()));
    };
    let until = monotonic().plus(time);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let output = printed(&mut child, until);
    let ended = match output {
        Ok(_) => wait(&mut child, until),
        Err(_) => None,
    };
    let Some(status) = ended else {
        // What it started in its turn may live on; it holds nothing of ours.
        drop(child.kill());
        drop(child.wait());
        return Err(output
            .err()
            .unwrap_or_else(|| failed(format!("took longer than {time:?}, and was ended"))));
    };
    if !status.success() {
        return Err(failed(format!("failed: {status}")));
    }
    output
}

/// Everything that the child prints. A thread reads it: what the child started may hold the pipe
/// open for ever.
fn printed(child: &mut Child, until: Monotonic) -> Result<Vec<u8>, ReadError> {
    let failed = |what: &str| ReadError::Command(what.to_owned());
    let stdout = child.stdout.take().ok_or_else(|| failed("has no output"))?;
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("command".into())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes);
            // Nobody waits any more: then it took too long.
            drop(sender.send(read.map(|_| bytes)));
        })
        .map_err(|error| ReadError::Command(format!("cannot be read: {error}")))?;
    let bytes = receiver
        .recv_timeout(until.since(monotonic()))
        .map_err(|_| failed("took too long, and was ended"))?
        .map_err(ReadError::Unreadable)?;
    match bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        true => Err(failed("prints more than 64 KiB, and was ended")),
        false => Ok(bytes),
    }
}

fn wait(child: &mut Child, until: Monotonic) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if monotonic() < until => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => return None,
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
