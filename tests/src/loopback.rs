//! A server of the harness: a thread of its own, on a free port of loopback.

use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A runtime for a server, and where it listens.
pub(crate) fn listen() -> Result<(Runtime, TcpListener, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    let listener = runtime
        .block_on(TcpListener::bind(("127.0.0.1", 0)))
        .context("cannot listen on loopback")?;
    let address = listener.local_addr().context("no address")?;
    Ok((runtime, listener, address))
}
