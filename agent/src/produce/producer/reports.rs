//! What is heard of batches: each is reported once, whatever librdkafka says of its records.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::produce::outcome::Outcome;
use crate::spool::BatchId;

/// What librdkafka said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Every record of a batch was reported; the worst of them counts.
    Batch {
        /// Which.
        id: BatchId,
        /// How it went.
        outcome: Outcome,
    },
    /// The client is of no use any more.
    Lost,
    /// So many bytes more have passed between it and the brokers, requests and answers.
    Wire(u64),
}

/// How many of a batch's records were not reported yet, and the worst that was.
#[derive(Debug)]
pub(super) struct Tally {
    id: BatchId,
    open: AtomicUsize,
    worst: AtomicU8,
}

/// The list of what was heard, until delivery takes it.
#[derive(Debug)]
pub(super) struct Reports {
    list: Mutex<Vec<Report>>,
    news: Arc<Notify>,
    /// Batches of which nothing was reported yet.
    open: AtomicUsize,
}

impl Tally {
    /// Of a batch with so many records.
    pub(super) fn new(id: BatchId, records: usize) -> Self {
        Self {
            id,
            open: AtomicUsize::new(records),
            worst: AtomicU8::new(Outcome::Delivered as u8),
        }
    }

    /// Which batch it is of.
    pub(super) fn id(&self) -> BatchId {
        self.id
    }

    /// `records` more are done. The one who brings the last says how the batch went.
    pub(super) fn reported(&self, records: usize, outcome: Outcome, reports: &Reports) {
        self.worst.fetch_max(outcome as u8, Ordering::AcqRel);
        if self.open.fetch_sub(records, Ordering::AcqRel) != records {
            return;
        }
        let worst = self.worst.load(Ordering::Acquire);
        let outcome = [Outcome::Delivered, Outcome::Retry]
            .into_iter()
            .find(|outcome| *outcome as u8 == worst)
            .unwrap_or(Outcome::Recreate);
        reports.open.fetch_sub(1, Ordering::AcqRel);
        reports.put(Report::Batch {
            id: self.id,
            outcome,
        });
    }
}

impl Reports {
    /// `news` is notified of each report.
    pub(super) fn new(news: Arc<Notify>) -> Self {
        Self {
            list: Mutex::default(),
            news,
            open: AtomicUsize::new(0),
        }
    }

    /// One batch more is to be reported. Returns whether it is the only one.
    pub(super) fn expect_one(&self) -> bool {
        self.open.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Whether any batch is to be reported.
    pub(super) fn are_expected(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// All that was put since the last call.
    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put(&self, report: Report) {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report);
        self.news.notify_one();
    }
}
