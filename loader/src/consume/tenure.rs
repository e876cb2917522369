//! For how long a partition is ours: told by the poll thread, heard by its worker wherever it waits.

use tokio::sync::watch;

/// The poll thread's end. Dropped with the partition's lane: then the tenure is over.
#[derive(Debug)]
pub struct Tenant(#[expect(dead_code, reason = "it is there to be dropped")] watch::Sender<()>);

/// The worker's end.
#[derive(Debug)]
pub struct Tenure(watch::Receiver<()>);

/// A tenure that has begun.
pub fn tenure() -> (Tenant, Tenure) {
    let (sender, receiver) = watch::channel(());
    (Tenant(sender), Tenure(receiver))
}

impl Tenure {
    /// Waits until the partition was taken away.
    pub async fn over(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
