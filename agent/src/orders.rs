//! What a running thread of sources is told when the configuration changes: which of its sources to let
//! go of, and then which to take up. Those that did not change are in no order, and go on undisturbed:
//! their files stay open, their windows and dead bands go on.
//!
//! A changed source is let go of and taken up. Between the two its batches are queued and the database
//! is asked what it knows, so that it goes on at the very byte.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_record::SourceId;
use tokio::sync::oneshot;

use crate::checkpoint::Knowledge;
use crate::config::changes::only_in;

/// One order. `S` is a source as configured.
#[derive(Debug)]
pub enum Order<S> {
    /// To read these sources no more, and to answer once everything of them was given away.
    LetGo {
        /// Which.
        sources: Vec<SourceId>,
        /// The answer.
        done: oneshot::Sender<()>,
    },
    /// To read these sources from now on.
    TakeUp {
        /// As configured now.
        sources: Vec<S>,
        /// What the database knows.
        known: Knowledge,
    },
}

/// Orders that wait for their thread. Clones are the same.
#[derive(Debug)]
pub struct Orders<S>(Arc<Mutex<VecDeque<Order<S>>>>);

impl<S> Orders<S> {
    /// The oldest, if there is one.
    pub fn next(&self) -> Option<Order<S>> {
        self.waiting().pop_front()
    }

    /// Gives one. Its thread is to be woken.
    pub fn give(&self, order: Order<S>) {
        self.waiting().push_back(order);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Order<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone + PartialEq> Orders<S> {
    /// Orders to let go of what `old` has and `new` has not, or has otherwise; none where that is nothing.
    pub fn let_go(
        &self,
        (old, new): (&[S], &[S]),
        id: impl Fn(&S) -> SourceId,
    ) -> Option<oneshot::Receiver<()>> {
        let sources: Vec<_> = only_in(old, new).map(id).collect();
        if sources.is_empty() {
            return None;
        }
        let (done, answer) = oneshot::channel();
        self.give(Order::LetGo { sources, done });
        Some(answer)
    }

    /// Orders to take up what `new` has and `old` has not, or has otherwise.
    pub fn take_up(&self, (old, new): (&[S], &[S]), known: Knowledge) {
        let sources = only_in(new, old).cloned().collect();
        self.give(Order::TakeUp { sources, known });
    }
}

impl<S> Clone for Orders<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Default for Orders<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
