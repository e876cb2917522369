//! For how long a partition is ours: told by the poll thread, heard by its worker wherever it waits.

use tokio::sync::watch;

/// The poll thread's end. Dropped with the partition's lane: then the tenure is over.
#[derive(Debug)]
pub struct Tenant(watch::Sender<()>);

/// The worker's end.
#[derive(Debug)]
pub struct Tenure {
    calls: watch::Receiver<()>,
    /// It was told to finish.
    finishes: bool,
}

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
    let tenure = Tenure {
        calls: receiver,
        finishes: false,
    };
    (Tenant(sender), tenure)
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
        match self.calls.changed().await {
            Ok(()) => {
                self.finishes = true;
                Call::Finish
            }
            Err(_) => Call::Gone,
        }
    }

    /// The same for a worker that has nothing more to write: that it was told to finish before is enough.
    pub async fn end(&mut self) -> Call {
        match self.finishes {
            true => Call::Finish,
            false => self.call().await,
        }
    }
}
