//! A real browser, headless: Chromium, from Debian's package `chromium-headless-shell`, spoken to over
//! pipes in its own protocol (`--remote-debugging-pipe`: JSON messages, each ended by a zero byte). It
//! ends when the pipe does, so it cannot outlive the test.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The browser reads its commands from descriptor 3 and writes to 4; a shell puts ours there. Without
/// its sandbox: tests may run as root, and the page is our own.
const START: &str = "exec chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage \
     --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<&0 4>&1 0</dev/null 1>&2";
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one, with a page of `width` by `height` CSS pixels.
    ///
    /// # Panics
    /// If there is no `chromium-headless-shell`, or it does not answer.
    pub fn start(width: u32, height: u32) -> Self {
        Self::try_start(width, height).unwrap_or_else(|error| {
            panic!("Chromium (tests/tools.sh chromium-headless-shell installs it): {error:#}")
        })
    }

    fn try_start(width: u32, height: u32) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", START, "browser"])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let commands = child.stdin.take().context("no pipe to it")?;
        let mut answers = BufReader::new(child.stdout.take().context("no pipe from it")?);
        let (sender, messages) = sync_channel(64);
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while let Ok(1..) = answers.read_until(0, &mut message) {
                message.pop();
                let value = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            session: None,
            last: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", &json!({}))?;
        browser.call("Runtime.enable", &json!({}))?;
        browser.call("Log.enable", &json!({}))?;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        browser.call("Emulation.setDeviceMetricsOverride", &size)?;
        Ok(browser)
    }

    /// Goes to a URL.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub fn open(&mut self, url: &str) {
        let went = self.call("Page.navigate", &json!({ "url": url }));
        let went = went.unwrap_or_else(|error| panic!("{url}: {error:#}"));
        assert!(went.get("errorText").is_none(), "{url}: {went}");
    }

    /// What a JavaScript expression is in the page.
    ///
    /// # Panics
    /// If it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let told = self.call("Runtime.evaluate", &ask);
        let told = told.unwrap_or_else(|error| panic!("{expression}: {error:#}"));
        assert!(
            told.get("exceptionDetails").is_none(),
            "{expression}: {told}"
        );
        told["result"]["value"].clone()
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.commands
            .write_all(&bytes)
            .context("it is gone, or was never there")?;
        loop {
            match self.messages.recv_timeout(PATIENCE) {
                Ok(mut answer) if answer["id"] == self.last => {
                    if let Some(error) = answer.get("error") {
                        bail!("{method}: {error}");
                    }
                    return Ok(answer["result"].take());
                }
                // An event, of which nothing is wanted.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("{method}: no answer in {PATIENCE:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("{method}: it ended"),
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without a pipe it ends by itself; this is only faster.
        let killed = self.child.kill();
        let reaped = self.child.wait();
        if let Err(error) = killed.and(reaped) {
            tracing::debug!(%error, "the browser was gone already");
        }
    }
}
