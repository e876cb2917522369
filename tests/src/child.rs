//! A child process that cannot outlive the test.
//!
//! Beside each child runs a shell, the watchdog, whose standard input is a pipe that only the test
//! process holds. When the test ends in any way, SIGKILL included, the kernel closes the pipe, and
//! the watchdog kills the child and removes its folder. Child and watchdog have process groups of
//! their own, so Ctrl-C reaches the test alone and takes the same road.
//!
//! A child is never signalled after it was reaped, and the watchdog kills a process only if its
//! environment carries the child's token: a process id that was reused is safe.

use crate::clock;
use crate::folder::PREFIX;
use crate::outside::unique;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

const TOKEN: &str = "HEADWATER_TEST_CHILD";

/// $1 process, $2 token, $3 folder or nothing, $4 prefix that the folder's name must have.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
read -r word
[ "$word" = done ] && exit 0
if tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | grep -qxF "HEADWATER_TEST_CHILD=$2"; then
    kill -KILL "$1"
    n=0
    while [ "$n" -lt 50 ] && [ -s "/proc/$1/cmdline" ]; do sleep 0.1; n=$((n + 1)); done
fi
case "$3" in
    */"$4"*) rm -rf -- "$3" ;;
esac
"#;

/// How often a wait looks again. A few milliseconds cost nothing beside a process's own start.
const POLL: Duration = Duration::from_millis(5);

/// A thread that waits for a disk stops when that wait is over.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    pid: Pid,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    child: std::process::Child,
    watchdog: std::process::Child,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` under a watchdog. `folder` is removed if the test process dies first.
    pub(crate) fn spawn(name: &str, command: &mut Command, folder: Option<&Path>) -> Result<Self> {
        let token = unique("child");
        let mut child = command
            .env(TOKEN, &token)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({:?})", command.get_program()))?;
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "headwater-watchdog"])
            .arg(child.id().to_string())
            .arg(&token)
            .arg(folder.unwrap_or(Path::new("")))
            .arg(PREFIX)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let watchdog = match watchdog {
            Ok(watchdog) => watchdog,
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                return Err(error).context("cannot start a watchdog with /bin/sh");
            }
        };
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("the kernel gave a process id that is none")?;
        let inner = Mutex::new(Inner {
            child,
            watchdog,
            status: None,
        });
        Ok(Self {
            name: name.to_owned(),
            pid,
            inner,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal, if the child still runs.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let mut inner = self.lock();
        if inner.poll()?.is_some() {
            bail!("{} has ended already", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Stops the child's clock (SIGSTOP), and returns once every thread of it stands still: the
    /// signal alone is on its way when `kill` returns, and threads come to their stop one by one.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let start = clock::now();
        while !self.stands_still()? {
            if start.elapsed() >= STOP_TIMEOUT {
                bail!("{} does not stop within {STOP_TIMEOUT:?}", self.name);
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether no thread of it can run: each is stopped (`T`), or has ended.
    fn stands_still(&self) -> Result<bool> {
        let tasks = format!("/proc/{}/task", self.pid());
        let tasks = fs::read_dir(&tasks).with_context(|| format!("cannot look into {tasks}"))?;
        for task in tasks {
            let stat = task.map(|task| fs::read_to_string(task.path().join("stat")));
            // A thread that is no more there does not run.
            let Ok(Ok(stat)) = stat else { continue };
            // The name in parentheses may hold anything; the state is the letter behind it.
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            if !matches!(state, Some('T' | 'Z' | 'X')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the exit status once the child has ended.
    pub(crate) fn status(&self) -> Result<Option<ExitStatus>> {
        self.lock().poll()
    }

    /// Waits until the child has ended; `None` when `timeout` passes first.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let start = clock::now();
        loop {
            let status = self.status()?;
            if status.is_some() || start.elapsed() >= timeout {
                return Ok(status);
            }
            sleep(POLL);
        }
    }

    /// Kills the child with SIGKILL, if it still runs, and reaps it.
    pub(crate) fn kill(&self) -> Result<ExitStatus> {
        let mut inner = self.lock();
        if let Some(status) = inner.poll()? {
            return Ok(status);
        }
        inner.child.kill().context("cannot kill a child")?;
        let status = inner.child.wait().context("cannot wait for a child")?;
        inner.ended(status);
        Ok(status)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none()
            && let Some(status) = self.child.try_wait().context("cannot look at a child")?
        {
            self.ended(status);
        }
        Ok(self.status)
    }

    /// Tells the watchdog that there is nothing left to guard.
    fn ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            pipe.write_all(b"done\n").ok();
        }
        self.watchdog.wait().ok();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_killed_when_its_watchdogs_pipe_closes() {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let child = Child::spawn(
            "sleep",
            Command::new("sleep").arg("600"),
            Some(folder.path()),
        )
        .unwrap();
        assert_eq!(child.status().unwrap(), None);
        drop(child.lock().watchdog.stdin.take());
        let status = child.wait(Duration::from_secs(60)).unwrap();
        assert!(status.is_some_and(|status| !status.success()));
        assert!(!folder.path().exists());
    }

    #[test]
    fn a_child_that_ended_keeps_its_folder_and_its_status() {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let child = Child::spawn(
            "sh",
            Command::new("sh").args(["-c", "exit 3"]),
            Some(folder.path()),
        )
        .unwrap();
        let status = child.wait(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(child.signal(Signal::TERM).is_err());
        drop(child);
        assert!(folder.path().exists());
    }
}
