//! How a worker comes to what its partition goes on from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::consume::tenure::Call;
use crate::consume::{Assigned, Commit, CommittedOffset, HandOver};
use crate::partition::Partition;
use crate::recover::{RecoverError, Recovered, recover};
use crate::store::StoreError;
use crate::worker::seat::Seat;
use crate::worker::{Ended, Shared};

/// How long a partition of which too little is known waits before the membership is given up for it.
const STAND_BY: Duration = Duration::from_secs(300);

/// How often it is asked where a partition ends that cannot be taken up: its lag is told meanwhile.
const ASK: Duration = Duration::from_secs(10);

/// Recovers the partition, until it is taken away or the loader is told to stop: whatever is under way then
/// is dropped at once, so that nothing of it meets what the next owner does. Returns the first records, too,
/// where they came before.
pub(super) async fn take_up(
    seat: &Seat<'_>,
    shared: &Shared,
    member: &Arc<dyn Commit>,
    assigned: &mut Assigned,
) -> Result<(Partition, Option<HandOver>), Ended> {
    let mut stop = shared.stop.clone();
    let Assigned {
        partition,
        committed,
        low,
        end,
        tenure,
        records,
        ..
    } = assigned;
    let taking = try_on(seat, shared, committed.as_ref(), (*low, *end));
    let asking = ask(seat, member, *partition);
    tokio::pin!(taking, asking);
    let mut first = None;
    loop {
        tokio::select! {
            biased;
            call = tenure.call() => return Err(match call {
                Call::Finish => Ended::Finished,
                Call::Gone => Ended::Revoked,
            }),
            _ = stop.wait_for(|stop| *stop) => return Err(Ended::Finished),
            taken = &mut taking => return taken.map(|machine| (machine, first)),
            Some(handed) = records.recv(), if first.is_none() => {
                seat.hears(&handed);
                first = Some(handed);
            }
            never = &mut asking => match never {},
        }
    }
}

/// Asks every now and then where the partition ends: its records are not fetched on, and nobody else says it.
async fn ask(seat: &Seat<'_>, member: &Arc<dyn Commit>, partition: i32) -> Infallible {
    loop {
        tokio::time::sleep(ASK).await;
        let member = Arc::clone(member);
        let asked = tokio::task::spawn_blocking(move || member.end(partition));
        seat.hears_end(asked.await.unwrap_or(None));
    }
}

/// What may work later is tried again.
async fn try_on(
    seat: &Seat<'_>,
    shared: &Shared,
    committed: Option<&CommittedOffset>,
    ends: (u64, Option<u64>),
) -> Result<Partition, Ended> {
    let (partition, epoch) = seat.who;
    let mut backoff = Backoff::new(epoch);
    loop {
        match recover(&shared.plan, &shared.store, partition, committed, ends).await {
            Ok(Recovered {
                machine,
                from,
                lost,
            }) => {
                tracing::info!(partition, from, "partition taken up");
                if !lost.is_empty() {
                    shared.metrics.lost(partition, lost);
                }
                return Ok(machine);
            }
            Err(RecoverError::Store(error @ (StoreError::Later(_) | StoreError::Refused(_)))) => {
                let wait = backoff.next_wait();
                tracing::warn!(partition, %error, ?wait, "the state cannot be read yet; trying again");
                seat.waits(format!("the state cannot be read yet: {error}"));
                tokio::time::sleep(wait).await;
            }
            Err(error @ RecoverError::EndUnknown(_)) => {
                // The next assignment knows more. The other partitions are loaded meanwhile.
                tracing::warn!("{error}");
                seat.waits(error.to_string());
                tokio::time::sleep(STAND_BY).await;
                return Err(Ended::Lost(error.to_string()));
            }
            Err(error) => return Err(Ended::Fatal(error.to_string())),
        }
    }
}
