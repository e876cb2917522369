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

/// A loopback address that nobody has, for a program that is told where to listen.
///
/// # Panics
/// If loopback has no port left.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener.local_addr().expect("it has an address");
    address.to_string()
}
