//! How a worker comes to what its partition goes on from.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::consume::{Assigned, CommittedOffset};
use crate::partition::Partition;
use crate::recover::{RecoverError, recover};
use crate::store::StoreError;
use crate::worker::{Ended, Shared};

/// How long a partition of which too little is known waits before the membership is given up for it.
const STAND_BY: Duration = Duration::from_secs(300);

/// Recovers the partition, until it is taken away or the loader is told to stop: whatever is under way then
/// is dropped at once, so that nothing of it meets what the next owner does.
pub(super) async fn take_up(shared: &Shared, assigned: &mut Assigned) -> Result<Partition, Ended> {
    let mut stop = shared.stop.clone();
    let Assigned {
        partition,
        epoch,
        committed,
        low,
        end,
        tenure,
        ..
    } = assigned;
    let ends = (*low, *end);
    tokio::select! {
        biased;
        () = tenure.over() => Err(Ended::Revoked),
        _ = stop.wait_for(|stop| *stop) => Err(Ended::Finished),
        taken = try_on(shared, *partition, *epoch, committed.as_ref(), ends) => taken,
    }
}

/// What may work later is tried again.
async fn try_on(
    shared: &Shared,
    partition: i32,
    epoch: u64,
    committed: Option<&CommittedOffset>,
    ends: (u64, Option<u64>),
) -> Result<Partition, Ended> {
    let mut backoff = Backoff::new(epoch);
    loop {
        match recover(&shared.plan, &shared.store, partition, committed, ends).await {
            Ok((machine, from)) => {
                tracing::info!(partition, from, "partition taken up");
                return Ok(machine);
            }
            Err(RecoverError::Store(error @ (StoreError::Later(_) | StoreError::Refused(_)))) => {
                let wait = backoff.next_wait();
                tracing::warn!(partition, %error, ?wait, "the state cannot be read yet; trying again");
                tokio::time::sleep(wait).await;
            }
            Err(error @ RecoverError::EndUnknown(_)) => {
                // The next assignment knows more. The other partitions are loaded meanwhile.
                tracing::warn!("{error}");
                tokio::time::sleep(STAND_BY).await;
                return Err(Ended::Lost(error.to_string()));
            }
            Err(error) => return Err(Ended::Fatal(error.to_string())),
        }
    }
}
