//! For how long a partition is ours: told by the poll thread, heard by its worker wherever it waits.

use tokio::sync::watch;

/// The poll thread's end. Dropped with the partition's lane: then the tenure is over.
#[derive(Debug)]
pub struct Tenant(watch::Sender<Told>);

/// The worker's end.
#[derive(Debug)]
pub struct Tenure(watch::Receiver<Told>);

/// What it was told so far.
#[derive(Debug, Default)]
struct Told {
    finish: bool,
    stop: Option<String>,
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// The partition is about to go: write what is open, take no more.
    Finish,
    /// Nothing of it can be read, and why.
    Stop(String),
    /// It is gone.
    Gone,
}

/// A tenure that has begun.
pub fn tenure() -> (Tenant, Tenure) {
    let (sender, receiver) = watch::channel(Told::default());
    (Tenant(sender), Tenure(receiver))
}

impl Tenant {
    /// Tells the worker to write what is open, and to end. It does so by itself, or not in time.
    pub fn finish(&self) {
        self.0.send_modify(|told| told.finish = true);
    }

    /// Tells the worker that nothing comes any more, and why.
    pub fn stop(&self, reason: String) {
        self.0.send_modify(|told| told.stop = Some(reason));
    }
}

impl Tenure {
    /// Waits for what comes next.
    pub async fn call(&mut self) -> Call {
        if self.0.changed().await.is_err() {
            return Call::Gone;
        }
        let told = self.0.borrow_and_update();
        match &told.stop {
            Some(reason) if !told.finish => Call::Stop(reason.clone()),
            _ => Call::Finish,
        }
    }

    /// The same for a worker that has nothing more to write: that it was told to finish before is enough, and
    /// that it stands it knows.
    pub async fn end(&mut self) -> Call {
        while !self.0.borrow().finish {
            match self.call().await {
                Call::Stop(_) => {}
                call => return call,
            }
        }
        Call::Finish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_finishes_is_not_stopped_and_whoever_stands_hears_only_of_the_end() {
        let (tenant, mut tenure) = tenure();
        tenant.stop("beyond".to_owned());
        assert_eq!(tenure.call().await, Call::Stop("beyond".to_owned()));
        tenant.stop("again".to_owned());
        tenant.finish();
        assert_eq!(tenure.call().await, Call::Finish);
        assert_eq!(tenure.end().await, Call::Finish);
        let (tenant, mut standing) = super::tenure();
        tenant.stop("beyond".to_owned());
        drop(tenant);
        assert_eq!(standing.end().await, Call::Gone);
    }
}
