//! A new configuration while the agent runs (SIGHUP): all of it is taken, or none.
//!
//! ```text
//!   SIGHUP ─► read, check ─► sources that changed are let go of ─► their batches are queued
//!                 │ refused: said, and nothing happens
//!                 └─► what the database knows, as far as they have given ─► the new ones are taken up
//! ```
//!
//! Sources that did not change go on undisturbed, also those beside a changed one in the same thread,
//! which is ordered to let go of some sources and to take up others ([`crate::orders`]). A thread stops
//! or starts only where it had no source before, or has none after. A file of a changed source goes on at
//! what was *given* of it, not at what is settled: nothing is read twice, and nothing has to be waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_record::Generation;
use tokio::sync::oneshot;

use super::sources::{Ended, Part};
use super::{Agent, Wake};
use crate::checkpoint::{Knowledge, OpenGeneration};
use crate::clock::{self, Monotonic};
use crate::config::Plan;
use crate::config::changes::Changes;
use crate::delivery::settle::Given;
use crate::spool::Trouble;

/// Where the database does not answer as it should, it is asked again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// A part that does not stop within this is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the database knows, on its way.
type Known = oneshot::Receiver<Result<Knowledge, Trouble>>;

/// A reload under way.
#[derive(Debug)]
pub(super) struct Reload {
    plan: Plan,
    changes: Changes,
    /// They stop.
    stopping: Vec<Part>,
    /// They go on with other sources; the answers of those that have sources to let go of.
    changing: Vec<Part>,
    letting_go: Vec<(Part, oneshot::Receiver<()>)>,
    /// They start then.
    starting: Vec<Part>,
    /// How far every generation was given when the database was asked.
    given: BTreeMap<Generation, Given>,
    known: Option<Known>,
    /// When to look at it again though nothing happens.
    look_at: Monotonic,
    /// Another one was asked for meanwhile.
    again: bool,
}

impl Reload {
    /// When something is to be done though nothing happens; none while the database owes an answer.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.known.is_none().then_some(self.look_at)
    }

    /// Whose answer is owed first: it stops, or lets go of sources.
    fn waits_for(&self) -> Option<&Part> {
        let letting_go = self.letting_go.iter().map(|(part, _)| part);
        self.stopping.iter().chain(letting_go).next()
    }

    /// What it waits for: a thread that lets go of sources, or the database. Never where it is neither.
    pub(super) async fn next(reload: &mut Option<Self>) -> Wake {
        let Some(reload) = reload else {
            return std::future::pending().await;
        };
        if let Some((_, answer)) = reload.letting_go.first_mut() {
            return match answer.await {
                Ok(()) => Wake::LetGo,
                // The thread is gone: that is heard elsewhere, and ends the agent.
                Err(_) => std::future::pending().await,
            };
        }
        match &mut reload.known {
            // Its thread is gone: that is heard elsewhere, too.
            Some(known) => Wake::Known(known.await.unwrap_or(Err(Trouble::Bug))),
            None => std::future::pending().await,
        }
    }
}

impl Agent<'_> {
    /// Reads the configuration again, and begins to take it.
    pub(super) fn reload(&mut self) {
        if self.grace.is_some() {
            return;
        }
        if let Some(reload) = &mut self.reload {
            reload.again = true;
            return;
        }
        let changes = (self.reread)().and_then(|plan| {
            let changes = Changes::between(&self.plan, &plan)
                .map_err(|fixed| format!("changes in {} need a restart", fixed.join(", ")))?;
            Ok((plan, changes))
        });
        let (mut plan, changes) = match changes {
            Ok(changed) => changed,
            Err(why) => {
                self.reloads.refused += 1;
                self.reloads.last_refused = true;
                tracing::error!(
                    "the new configuration is not taken, and the one before it stays in force: {why}"
                );
                return;
            }
        };
        plan.counts_on(&self.plan);
        let concerns = |part: &Part| match part {
            Part::Files => changes.files,
            Part::Sensors => changes.sensors,
            Part::Journal(id) => changes.concerns(id.as_str()),
        };
        let running = self.sources.parts();
        let goes_on = |part: &Part| {
            let has_several = !matches!(part, Part::Journal(_));
            has_several && running.contains(part) && Part::of(&plan).contains(part)
        };
        let parts = running.iter().filter(|part| concerns(part)).cloned();
        let (changing, stopping): (Vec<_>, Vec<_>) = parts.partition(goes_on);
        let starting = Part::of(&plan).into_iter().filter(concerns);
        let starting = starting.filter(|part| !goes_on(part)).collect();
        for part in &stopping {
            self.sources.stop_part(part);
        }
        let plans = (&self.plan, &plan);
        let letting_go = changing.iter().filter_map(|part| {
            let answer = self.sources.let_go(part, plans)?;
            Some((part.clone(), answer))
        });
        let letting_go = letting_go.collect();
        self.reload = Some(Reload {
            plan,
            changes,
            stopping,
            changing,
            letting_go,
            starting,
            given: BTreeMap::new(),
            known: None,
            look_at: clock::monotonic().plus(PATIENCE),
            again: false,
        });
        self.ask_what_is_known();
    }

    /// Whether a thread ended since it was told to by a reload.
    pub(super) fn ended_for_reload(&mut self, ended: &Ended) -> bool {
        let Some(reload) = &mut self.reload else {
            return false;
        };
        let before = reload.stopping.len();
        reload.stopping.retain(|part| *part != ended.part);
        if reload.stopping.len() == before || !matches!(ended.result, Some(Ok(()))) {
            return false;
        }
        self.queue_what_was_given();
        true
    }

    /// A thread has let go of the sources that it was to let go of.
    pub(super) fn sources_let_go(&mut self) {
        if let Some(reload) = &mut self.reload {
            reload.letting_go.remove(0);
            self.queue_what_was_given();
        }
    }

    /// What sources gave that are read no more lies in the channel.
    fn queue_what_was_given(&mut self) {
        while let Ok(batch) = self.sources.batches.try_recv() {
            self.take(batch);
        }
        self.ask_what_is_known();
    }

    /// Asks the database, once everything that was given is queued.
    fn ask_what_is_known(&mut self) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        if reload.waits_for().is_some() {
            return;
        }
        // Before the question: what closes meanwhile is still known to be closing.
        reload.given = self.edge.delivery.given();
        reload.known = self.edge.store.known().ok();
        reload.look_at = clock::monotonic().plus(AGAIN);
    }

    /// A deadline, or nothing.
    pub(super) fn look_at_reload(&mut self, now: Monotonic) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        if reload.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        reload.look_at = now.plus(PATIENCE);
        match reload.waits_for() {
            Some(part) => tracing::warn!(
                "the new configuration waits for the thread {:?}, which does not let go of its sources yet",
                part.to_string()
            ),
            None => self.ask_what_is_known(),
        }
    }

    /// The database says what it knows: the new parts start.
    pub(super) fn known(&mut self, known: Result<Knowledge, Trouble>) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        reload.known = None;
        let known = match known {
            Ok(known) => known,
            Err(trouble) => {
                tracing::warn!(
                    "the new configuration waits for the spool: {}",
                    trouble.advice()
                );
                return;
            }
        };
        let Some(reload) = self.reload.take() else {
            return;
        };
        let known = goes_on(known, &reload.given);
        self.edge.delivery.set_lanes(reload.plan.lanes());
        self.sources.adapt(&reload.plan);
        for part in &reload.starting {
            // A sensor's generation ended with its thread, or was closed when the agent started.
            let known = match part {
                Part::Sensors => &Knowledge::default(),
                Part::Files | Part::Journal(_) => &known,
            };
            let store = &self.edge.store;
            if let Err(error) = (self.sources).start_part(part, &reload.plan, store, known) {
                self.fail(&error.to_string());
                return;
            }
        }
        for part in &reload.changing {
            let plans = (&self.plan, &reload.plan);
            self.sources.take_up(part, plans, &known);
        }
        self.sources.let_go_of_deleted();
        self.plan = reload.plan;
        self.reloads.taken += 1;
        self.reloads.last_refused = false;
        let list = |ids: &[String]| ids.join(", ");
        tracing::info!(
            added = list(&reload.changes.added),
            changed = list(&reload.changes.changed),
            removed = list(&reload.changes.removed),
            "the new configuration is in force"
        );
        if reload.again {
            self.reload();
        }
    }
}

/// What a new thread begins with: each generation where the thread before it ended. Those that it
/// closed are over, though the database may not know yet.
fn goes_on(mut known: Knowledge, given: &BTreeMap<Generation, Given>) -> Knowledge {
    let open = std::mem::take(&mut known.open).into_iter();
    Knowledge {
        open: open.filter_map(|open| goes_on_of(open, given)).collect(),
        ..known
    }
}

fn goes_on_of(
    mut open: OpenGeneration,
    given: &BTreeMap<Generation, Given>,
) -> Option<OpenGeneration> {
    let next = (open.goes_on.as_mut()).and_then(|goes_on| goes_on.under.take());
    let next = next.and_then(|next| goes_on_of(*next, given));
    match given.get(&open.generation) {
        Some(given) if given.closes => return next,
        Some(given) => open.settled = open.settled.max(given.end),
        None => {}
    }
    if let Some(goes_on) = &mut open.goes_on {
        goes_on.under = next.map(Box::new);
    }
    let settled = open.settled;
    open.cuts.retain(|cut| *cut > settled);
    Some(open)
}

#[cfg(test)]
mod tests {
    use headwater_record::StreamId;

    use super::*;
    use crate::checkpoint::{GoesOn, Origin};

    #[test]
    fn a_generation_goes_on_where_it_was_given_to() {
        let open = |generation, settled| OpenGeneration {
            generation: Generation(generation),
            stream: StreamId::parse("d/s//p").unwrap(),
            origin: Origin::Sensor,
            settled,
            skip_to: None,
            cuts: vec![15, 25],
            marker: None,
            earlier: Vec::new(),
            goes_on: None,
        };
        let given = |end, closes| Given { end, closes };
        let given = [
            (Generation(1), given(20, false)),
            (Generation(2), given(20, true)),
        ];
        let known = |open| Knowledge {
            open,
            closed: Vec::new(),
            rebooted: false,
        };
        let all = known(vec![open(1, 10), open(2, 10), open(3, 10)]);
        let on = goes_on(all, &given.into_iter().collect());
        let on: Vec<_> = (on.open)
            .iter()
            .map(|open| (open.generation.0, open.settled))
            .collect();
        assert_eq!(on, [(1, 20), (3, 10)]);
        let cuts = goes_on(known(vec![open(1, 10)]), &given.into_iter().collect());
        assert_eq!(cuts.open[0].cuts, [25]);
        // A file that goes on under other generations: the first that is not closed is what is left of it.
        let on = |first: OpenGeneration, next: OpenGeneration| OpenGeneration {
            goes_on: Some(GoesOn {
                at: 30,
                under: Some(Box::new(next)),
            }),
            ..first
        };
        let chains = vec![
            on(open(2, 10), on(open(1, 10), open(4, 0))),
            on(open(1, 10), open(3, 0)),
        ];
        let chains = goes_on(known(chains), &given.into_iter().collect());
        let names = |open: &OpenGeneration| -> Vec<_> {
            (open.chain().map(|open| (open.generation.0, open.settled))).collect()
        };
        let chains: Vec<_> = chains.open.iter().map(names).collect();
        let expected = [vec![(1, 20), (4, 0)], vec![(1, 20), (3, 0)]];
        assert_eq!(chains, expected);
    }
}
