//! For how long a partition is ours: told by the poll thread, heard by its worker wherever it waits.

use tokio::sync::watch;

/// The poll thread's end. Dropped with the partition's lane: then the tenure is over.
#[derive(Debug)]
pub struct Tenant(watch::Sender<()>);

/// The worker's end.
#[derive(Debug)]
pub struct Tenure(watch::Receiver<()>);

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The partition is about to go: write what is open, take no more.
    Finish,
    /// It is gone.
    Gone,
}

/// A tenure that has begun.
pub fn tenure() -> (Tenant, Tenure) {
    let (sender, receiver) = watch::channel(());
    (Tenant(sender), Tenure(receiver))
}

impl Tenant {
    /// Tells the worker to write what is open, and to end. It does so by itself, or not in time.
    pub fn finish(&self) {
        self.0.send_replace(());
    }
}

impl Tenure {
    /// Waits for what comes next.
    pub async fn call(&mut self) -> Call {
        match self.0.changed().await {
            Ok(()) => Call::Finish,
            Err(_) => Call::Gone,
        }
    }
}
