//! The edge to whoever runs the tests: the environment, standard error, and names nobody else has.
//!
//! Every variable that steers the harness is listed here:
//!
//! | variable | meaning |
//! |---|---|
//! | `HEADWATER_BIN_DIR` | where the two binaries lie (default: the build folder of the running test) |
//! | `HEADWATER_CACHE` | where the broker's jars are kept (default: `$XDG_CACHE_HOME/headwater`, `~/.cache/headwater`) |
//! | `KAFKA_BOOTSTRAP` | a broker that runs already, for `Kafka::shared()` |
//! | `S3_ENDPOINT` | an S3 server that runs already, for `S3::shared()`; with `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` |
//! | `BACKLOG_GIB` | how much the bench's part `backlog` writes (default: 4) |

use crate::clock;
use crate::ports::Port;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// Returns a variable of the environment; an empty one counts as unset.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the harness that reads the environment"
)]
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Tells whoever runs the tests what the harness does, on standard error.
#[expect(
    clippy::print_stderr,
    reason = "the one place of the harness that speaks"
)]
pub(crate) fn say(text: &str) {
    eprintln!("headwater-tests: {text}");
}

/// Returns `prefix-` and a suffix that no other call, process or earlier run returned: for topics,
/// groups and buckets on a shared broker or S3 server.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let micros = clock::wall()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_micros());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{micros:x}-{:x}-{count:x}", std::process::id())
}

/// A loopback address, as `host:port`, that no other test and no connection takes while this is kept.
#[derive(Debug)]
pub struct Address {
    text: String,
    _port: Port,
}

impl std::ops::Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// An address that nobody has, for a program that is told where to listen, over its restarts too.
///
/// # Panics
/// If loopback has no port left.
pub fn free_address() -> Address {
    let port = Port::reserve().unwrap_or_else(|error| panic!("no address to listen on: {error:#}"));
    Address {
        text: format!("127.0.0.1:{}", port.number()),
        _port: port,
    }
}
