//! What others may ask a running agent: how it goes, and to see its records pass.
//!
//! ```text
//!   status, tap (commands) ──┐                         ┌─► Status  (the agent's loop answers)
//!   Prometheus, a person   ──┴─► server ── Ask ────────┤
//!                               (Unix socket,          └─► Tap     (batches, as they are queued)
//!                                loopback port)
//! ```
//!
//! - [`status`]: plain data: everything that is shown, in one place.
//! - [`metrics`]: pure: the same as OpenMetrics text.
//! - [`process`]: what the kernel counts of us.
//! - [`tap`]: who watches; a watcher who is slow misses records, the agent never waits for one.
//! - [`server`]: the edge: HTTP on a Unix socket or a loopback port.
//! - [`client`]: the other end, for our own commands.
//!
//! Nothing here can change what the agent does, and a question costs it one answer: the loop that
//! owns the state gives it between two events.

pub mod client;
mod cpu;
pub mod metrics;
pub mod process;
pub mod server;
pub mod status;
pub mod tap;
