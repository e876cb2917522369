//! How a worker comes to what its partition goes on from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::consume::tenure::Call;
use crate::consume::{Assigned, Commit, CommittedOffset, HandOver};
use crate::partition::{Limits, Partition};
use crate::recover::{RecoverError, Recovered, recover};
use crate::staging::Holding;
use crate::worker::seat::Seat;
use crate::worker::{Ended, Shared};

/// How long a partition that was stopped waits, at least, before the membership is given up for it: the next
/// assignment may know more, and a person may have helped.
const STAND_BY: Duration = Duration::from_secs(300);
/// And at most.
const STAND_BY_MAX: Duration = Duration::from_secs(7200);

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
            call = tenure.call() => return Err(end_by(call)),
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

/// Waits with a partition that was stopped. The others are loaded meanwhile, nothing of this one is held, and its
/// lag and its trouble are told.
pub(super) async fn stand_by(
    seat: &Seat<'_>,
    shared: &Shared,
    member: &Arc<dyn Commit>,
    assigned: Assigned,
    reason: String,
) -> Ended {
    let Assigned {
        partition,
        mut tenure,
        records,
        ..
    } = assigned;
    drop(records);
    seat.place.hold(Holding::default());
    shared.metrics.stopped(partition);
    let wait = stands_for(&shared.plan.flush);
    tracing::error!(
        partition,
        reason,
        "the partition is stopped, and looked at again in {} minutes; the others go on",
        wait.as_secs() / 60
    );
    seat.waits(reason.clone());
    let mut stop = shared.stop.clone();
    tokio::select! {
        call = tenure.end() => end_by(call),
        _ = stop.wait_for(|stop| *stop) => Ended::Finished,
        () = tokio::time::sleep(wait) => Ended::Lost(reason),
        never = ask(seat, member, partition) => match never {},
    }
}

/// How long a partition that was stopped waits for another look. That takes all partitions of the group away for a
/// moment, and what is open in other loaders is read again: between two looks each of their batches has to close,
/// unless that takes so long that what waits could be deleted meanwhile.
fn stands_for(flush: &Limits) -> Duration {
    let twice = Duration::from_millis(flush.age_ms.saturating_mul(2));
    twice.clamp(STAND_BY, STAND_BY_MAX)
}

fn end_by(call: Call) -> Ended {
    match call {
        Call::Finish => Ended::Finished,
        Call::Stop(reason) => Ended::Stopped(reason),
        Call::Gone => Ended::Revoked,
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

/// The tables of a begun batch that are not the plan's. Where tables are read again there is room for some versions,
/// and they are counted among those.
fn count_tables(shared: &Shared, machine: &Partition) {
    let begun = machine.begun_by();
    let begun = begun.filter(|begun| !Arc::ptr_eq(begun, &shared.plan.pipeline));
    if let Some(begun) = begun.filter(|_| shared.plan.table_reload.is_none()) {
        shared.staging.unplanned(begun);
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
    let mut counted = false;
    let place = (&shared.store, &shared.pipelines);
    loop {
        // What runs need not be read: the plan's, and the one over the tables as they are now.
        let current = Arc::clone(&shared.pipeline.borrow());
        shared.pipelines.know(&shared.plan.pipeline).await;
        shared.pipelines.know(&current).await;
        match recover(&shared.plan, place, partition, committed, ends).await {
            Ok(Recovered {
                machine,
                from,
                lost,
            }) => {
                tracing::info!(partition, from, "partition taken up");
                count_tables(shared, &machine);
                if !lost.is_empty() {
                    shared.metrics.lost(partition, lost);
                }
                seat.goes_on();
                return Ok(machine);
            }
            // The next assignment may know more.
            Err(error) if error.is_of_assignment() => {
                return Err(Ended::Stopped(error.to_string()));
            }
            Err(error) => {
                let wait = backoff.next_wait();
                if let RecoverError::Store(error) = &error {
                    tracing::warn!(partition, %error, ?wait, "the state cannot be read yet; trying again");
                    seat.waits(format!("the state cannot be read yet: {error}"));
                } else {
                    tracing::error!(partition, %error, ?wait, "the partition cannot be taken up; trying again, the others go on");
                    if !std::mem::replace(&mut counted, true) {
                        shared.metrics.stopped(partition);
                    }
                    seat.waits(error.to_string());
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_others_close_between_two_looks_at_one_that_is_stopped() {
        let stands = |age_ms| {
            stands_for(&Limits {
                age_ms,
                ..Limits::NONE
            })
        };
        assert_eq!(stands(60_000), STAND_BY);
        assert_eq!(stands(600_000), Duration::from_secs(1200));
        assert_eq!(stands(86_400_000), STAND_BY_MAX);
    }
}
