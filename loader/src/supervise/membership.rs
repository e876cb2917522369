//! One membership in the group, from joining to leaving: its poll thread, and a worker for each partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use headwater_msk::Cluster;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use crate::consume::consumer::{ConsumerError, Member};
use crate::consume::{Assigned, CommittedOffset};
use crate::supervise::admission::{Admission, Door};
use crate::supervise::ending::{Ending, Left};
use crate::supervise::telling::report;
use crate::supervise::{Signals, say_unknown};
use crate::worker::{self, Ended, Shared};

/// More partitions than one member is ever given between two looks.
const ASSIGNED: usize = 4096;
/// How long what is open may take before the group is left for a doubt: the partition in doubt waits meanwhile.
const FINISH: Duration = Duration::from_secs(10);
/// How long the whole of leaving may take.
const LEAVE: Duration = Duration::from_secs(20);
/// How often it is looked whether the others are done with the member.
const LOOK: Duration = Duration::from_millis(20);
/// Looks at the poll thread, which is told to end: two seconds.
const POLL_LOOKS: u32 = 100;
/// Looks at who else has the member: six seconds, for who asks the broker something blocks for five.
const LET_GO_LOOKS: u32 = 300;
/// How often the log says what was done, when something was.
const REPORT: Duration = Duration::from_secs(60);

/// One membership in the group, from joining to leaving.
pub(super) async fn member(
    shared: &Arc<Shared>,
    (cluster, admission): (&Arc<Cluster>, &mut Admission),
    signals: &mut Signals,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<Left> {
    let (sender, assigned) = mpsc::channel::<Assigned>(ASSIGNED);
    let mut door = Door::new(admission, assigned);
    let member = match join(shared, cluster, sender) {
        Ok(member) => Arc::new(member),
        Err(ConsumerError::Again(reason)) => return Ok(Left::Again(reason)),
        Err(error) => return Err(error.into()),
    };
    tracing::info!(
        group = shared.plan.group,
        topic = shared.plan.kafka.topic,
        "joining the group"
    );
    let halt = Arc::new(AtomicBool::new(false));
    let hold = Arc::new(AtomicBool::new(false));
    let mut polling = poll_thread(&member, &halt, &hold, &shared.polled_ms)?;
    let mut workers: JoinSet<Ended> = JoinSet::new();
    let mut reports = tokio::time::interval(REPORT);
    let mut ending: Option<Ending> = None;
    let left = loop {
        let until = until(ending.as_ref());
        tokio::select! {
            Some(given) = door.next(), if ending.is_none() => match given {
                Ok(given) => take_up(&mut workers, shared, &member, given),
                Err(refused) => break Err(refused),
            },
            Some(ended) = workers.join_next(), if !workers.is_empty() => {
                let stops = ending.as_ref().is_some_and(Ending::stops);
                judge(ended, &member, stops);
            }
            polled = &mut polling => match polled {
                Ok(Ok(())) => break Ok(Left::Stopped),
                Ok(Err(ConsumerError::Again(reason))) => {
                    hold.store(true, Ordering::Release);
                    polling = poll_thread(&member, &halt, &hold, &shared.polled_ms)?;
                    if ending.is_none() {
                        member.finish();
                        ending = Some(in_doubt(reason, shared.plan.stop_grace.0));
                    }
                }
                Ok(Err(ConsumerError::Fatal(reason))) => break Err(anyhow::anyhow!(reason)),
                Err(_) => break Err(anyhow::anyhow!("the poll thread ended early")),
            },
            () = signals.next() => {
                hold.store(true, Ordering::Release);
                ending = Some(told_to_stop(ending.as_ref(), stop, shared.plan.stop_grace.0));
            }
            () = tokio::time::sleep_until(until), if ending.is_some() => {}
            _ = reports.tick() => report(shared, "so far"),
        }
        let now = tokio::time::Instant::now();
        let over = ending
            .as_ref()
            .and_then(|ending| ending.over(now, workers.len()));
        if let Some(over) = over
            && let Some(ending) = ending.take()
        {
            over.say();
            if ending.stops() {
                say_left(&member, &mut door);
            }
            break Ok(ending.left);
        }
    };
    halt.store(true, Ordering::Release);
    workers.shutdown().await;
    leave(member, polling).await;
    shared.metrics.joined(false);
    left
}

/// Until when what goes on at the end is waited for; as long as nothing ends, some time.
fn until(ending: Option<&Ending>) -> tokio::time::Instant {
    ending.map_or_else(
        || tokio::time::Instant::now() + REPORT,
        |ending| ending.until,
    )
}

fn take_up(
    workers: &mut JoinSet<Ended>,
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    assigned: Assigned,
) {
    workers.spawn(worker::run(
        Arc::clone(shared),
        Arc::clone(member) as _,
        assigned,
    ));
}

fn join(
    shared: &Shared,
    cluster: &Arc<Cluster>,
    assigned: mpsc::Sender<Assigned>,
) -> Result<Member, ConsumerError> {
    let ours = (
        Arc::clone(&shared.prefetch),
        Arc::clone(&shared.metrics),
        Arc::clone(&shared.polled_ms),
    );
    Member::join(&shared.plan, cluster, assigned, ours)
}

/// The membership is given up, and begun anew behind that.
fn in_doubt(reason: String, stop_grace: Duration) -> Ending {
    tracing::warn!(reason, "leaving the group: writing what is open");
    Ending::within(FINISH.min(stop_grace), Left::Again(reason))
}

/// The first time what is open is written, the second time nothing more.
fn told_to_stop(
    before: Option<&Ending>,
    stop: &watch::Sender<bool>,
    stop_grace: Duration,
) -> Ending {
    if before.is_some_and(Ending::stops) {
        tracing::warn!("told to stop twice: ending at once; what was not committed is read again");
        std::process::exit(130);
    }
    tracing::info!("stopping: writing what is open");
    stop.send_replace(true);
    Ending::within(stop_grace, Left::Stopped)
}

/// What the end of a worker means for the membership. Nothing that a single partition meets ends the loader:
/// the next one that is given the partition would end by it, too. `stops`: this process takes it up no more.
fn judge(ended: Result<Ended, JoinError>, member: &Member, stops: bool) {
    match ended {
        Ok(Ended::Revoked | Ended::Finished) => {}
        Ok(Ended::Unfinished(partition)) if !stops => {
            tracing::debug!(partition, "a begun batch goes with its partition");
        }
        Ok(Ended::Unfinished(partition)) => say_begun(partition),
        Ok(Ended::Lost(reason) | Ended::Stopped(reason)) => {
            tracing::warn!(reason, "a partition has to be read again");
            member.give_up();
        }
        Err(error) => {
            tracing::error!(%error, "a worker ended early; its partition has to be read again");
            member.give_up();
        }
    }
}

type Polling = oneshot::Receiver<Result<(), ConsumerError>>;

fn poll_thread(
    member: &Arc<Member>,
    halt: &Arc<AtomicBool>,
    hold: &Arc<AtomicBool>,
    polled_ms: &Arc<AtomicU64>,
) -> anyhow::Result<Polling> {
    let (ended, polling) = oneshot::channel();
    let (member, halt, hold) = (Arc::clone(member), Arc::clone(halt), Arc::clone(hold));
    let polled_ms = Arc::clone(polled_ms);
    std::thread::Builder::new()
        .name("poll".into())
        .spawn(move || {
            let polled = member.poll(&halt, &hold);
            polled_ms.store(0, Ordering::Release);
            drop(member);
            if ended.send(polled).is_err() {
                tracing::debug!("nobody waits for the poll thread any more");
            }
        })
        .context("cannot start the poll thread")?;
    Ok(polling)
}

/// Leaves the group: the gate is shut first, so that nothing is committed behind our back. Only who has the member
/// last leaves, and it has to be this: the process may end behind it.
async fn leave(member: Arc<Member>, mut polling: Polling) {
    let closed = tokio::task::spawn_blocking(move || {
        for _ in 0..POLL_LOOKS {
            if !matches!(polling.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        member.close_gate();
        match alone(member, LET_GO_LOOKS) {
            Some(member) => drop(member),
            None => tracing::warn!(
                "the broker does not answer a question about a partition: the group is left behind it"
            ),
        }
    });
    if tokio::time::timeout(LEAVE, closed).await.is_err() {
        tracing::warn!(
            "the group did not answer; the broker will notice by the session's time-out"
        );
    }
}

/// What nobody else has any more. None after so many looks: whoever has it last drops it.
fn alone<T>(mut shared: Arc<T>, looks: u32) -> Option<T> {
    for _ in 0..looks {
        match Arc::try_unwrap(shared) {
            Ok(own) => return Some(own),
            Err(others_too) => shared = others_too,
        }
        std::thread::sleep(LOOK);
    }
    Arc::into_inner(shared)
}

fn say_begun(partition: i32) {
    tracing::warn!(
        partition,
        "a begun batch waits to be finished: by whoever takes the partition up next, with this version of the loader"
    );
}

/// Says at a stop what no worker said: what the group gave too late, and what it did not give.
fn say_left(member: &Member, door: &mut Door<'_>) {
    if !member.is_assigned() {
        say_unknown("told to stop before the group gave any partition");
    }
    while let Some(assigned) = door.left() {
        let committed = assigned.committed.as_ref();
        if committed.is_some_and(CommittedOffset::may_begin) {
            say_begun(assigned.partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_somebody_still_asks_is_waited_for() {
        let member = Arc::new("the member");
        let asks = Arc::clone(&member);
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let answer: Result<(), _> = answered.recv();
                drop(asks);
                answer.unwrap();
            });
            assert!(alone(Arc::clone(&member), 2).is_none(), "not for ever");
            answer.send(()).unwrap();
            assert_eq!(alone(member, 3000), Some("the member"));
        });
    }
}
