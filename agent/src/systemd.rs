//! What systemd is told: ready, stopping, how it goes, and that the pipeline lives. Without
//! systemd (no `NOTIFY_SOCKET`), nothing. See `man 3 sd_notify`.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service is ready: the database is open, and the sources run.
pub fn ready() {
    tell(&NotifyState::Ready);
}

/// The service is on its way down.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

/// How it goes, in one line, for `systemctl status`.
pub fn status(line: &str) {
    tell(&NotifyState::Status(line));
}

/// The pipeline moves, or knows why it does not.
pub fn alive() {
    tell(&NotifyState::Watchdog);
}

/// How often to call [`alive`]: half of `WatchdogSec`. None where it is not set.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!(%error, %state, "cannot tell systemd");
    }
}
