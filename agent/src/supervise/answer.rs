//! Answers what is asked of a running agent, from the state of its loop.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use headwater_record::StreamId;

use super::Agent;
use super::progress::stuck;
use crate::admin::process::Process;
use crate::admin::server::Ask;
use crate::admin::status::{
    Behind, Broker, Files, Salvage, Samples, Spool, Status, Uplink, Window,
};
use crate::clock;
use crate::config::Plan;
use crate::process::{ProcessPlan, Tally};

fn behind(furthest: Vec<(StreamId, u64)>) -> Vec<Behind> {
    let named = furthest.into_iter().map(|(stream, unread_bytes)| Behind {
        stream: stream.to_string(),
        unread_bytes,
    });
    named.collect()
}

/// Of the sources that do anything with their lines, what came of them.
fn lines(plan: &Plan) -> BTreeMap<String, Tally> {
    let files = plan
        .files
        .iter()
        .map(|source| (&source.id, &source.process));
    let journals = plan
        .journals
        .iter()
        .map(|source| (&source.id, &source.process));
    let does_anything = |process: &ProcessPlan| !process.is_plain();
    let all = files
        .chain(journals)
        .filter(|(_, process)| does_anything(process));
    all.map(|(id, process)| (id.as_str().to_owned(), process.counters.tally()))
        .collect()
}

impl Agent<'_> {
    /// One answer. Whoever asked may be gone.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => drop(reply.send(Box::new(self.status()))),
            Ask::Tap(tap, reply) => {
                if reply.send(self.taps.add(tap).is_ok()).is_err() {
                    tracing::debug!("whoever wanted to watch is gone");
                }
            }
        }
    }

    pub(super) fn status(&self) -> Status {
        let now = clock::monotonic();
        let delivery = &self.edge.delivery;
        let (depth, samples) = (delivery.depth(), &self.sources.samples);
        let files = &self.sources.files;
        let salvage = self.edge.store.salvage();
        let ago = |at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.plan.device.as_str().to_owned(),
            up_ms: ago(self.started),
            stuck: stuck((delivery, salvage), self.sources.most_silent(now), now),
            clock_unset: delivery.clock_unset(),
            broker: Broker {
                online: delivery.is_online(),
                acknowledged_ms_ago: delivery.acknowledged().map(ago),
                refused_batches: delivery.refused_batches(),
            },
            credentials: self.edge.cluster.health(),
            counters: delivery.counters(),
            samples: Samples {
                taken: samples.taken.load(Ordering::Relaxed),
                lost: samples.lost.load(Ordering::Relaxed),
            },
            files: Files {
                followed: files.followed.load(Ordering::Relaxed),
                skipped: files.skipped.load(Ordering::Relaxed),
                given_up: files.given_up.load(Ordering::Relaxed),
                given_up_bytes: files.given_up_bytes.load(Ordering::Relaxed),
                out_of_reach: files.out_of_reach.load(Ordering::Relaxed),
                behind: files.behind.load(Ordering::Relaxed),
                unread_bytes: files.unread_bytes.load(Ordering::Relaxed),
                furthest: behind(files.furthest()),
            },
            window: Window {
                bytes: self.sources.budget.used() as u64,
                bytes_max: self.plan.window_bytes as u64,
            },
            spool: Spool {
                batches: depth.rows,
                bytes: depth.bytes,
                bytes_max: self.plan.spool.max_bytes,
                oldest_ms: depth.oldest_ms.map(clock::age_ms),
                full: delivery.spool_full(),
                refuses: (delivery.disk_trouble())
                    .or_else(|| self.edge.store.refuses_entries())
                    .map(|trouble| trouble.advice().to_owned()),
                salvage: salvage.map(|salvage| Salvage {
                    bytes: salvage.bytes,
                    bytes_all: salvage.bytes_all,
                }),
                free: self.edge.store.free(),
                floors: self.plan.spool.floors,
            },
            uplink: Uplink {
                bytes: delivery.uplink_bytes(),
                budgets: delivery.budgets(),
                gate: delivery.gate(now),
            },
            flash_left_bytes: delivery.flash_left_bytes(),
            flash_debt_bytes: delivery.flash_debt_bytes(),
            flash_max_bytes: self.plan.flash_bytes_per_day,
            memory_max_bytes: self.plan.memory_max,
            losses: self.losses.by_reason(),
            lines: lines(&self.plan),
            reloads: self.reloads,
            process: Process::read(),
            tap_missed: self.taps.missed(),
        }
    }
}
