//! Requests to the stores, by what was asked and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Which store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// S3, or what speaks its protocol.
    S3,
    /// DynamoDB, or what speaks its protocol.
    DynamoDb,
}

/// What came of a request. A request that is tried again by whoever made it is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// What was asked for is not there: often an answer, and no failure.
    NotFound,
    /// Its condition does not hold: what was to be written is there, or something later.
    ConditionFailed,
    /// Another change of the same was under way.
    Conflict,
    /// No right to do it.
    Denied,
    /// Another answer from 400 to 499.
    Refused,
    /// More than the store takes now.
    SlowDown,
    /// Another answer from 500 on, or one that cannot be read.
    ServerError,
    /// No answer in time.
    TimedOut,
    /// No connection, or one that broke before the answer.
    NoAnswer,
    /// Whoever made it waited for it no more.
    CutOff,
    /// It was not even sent: mostly for want of credentials.
    NotSent,
}

impl Outcome {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::ConditionFailed => "condition_failed",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::SlowDown => "slow_down",
            Self::ServerError => "server_error",
            Self::TimedOut => "timed_out",
            Self::NoAnswer => "no_answer",
            Self::CutOff => "cut_off",
            Self::NotSent => "not_sent",
        }
    }

    /// Whether the store, or the way to it, is in trouble; the others are answers.
    fn is_failure(self) -> bool {
        match self {
            Self::Ok | Self::NotFound | Self::ConditionFailed | Self::Conflict | Self::CutOff => {
                false
            }
            Self::Denied
            | Self::Refused
            | Self::SlowDown
            | Self::ServerError
            | Self::TimedOut
            | Self::NoAnswer
            | Self::NotSent => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    sink: &'static str,
    operation: String,
    outcome: &'static str,
}

/// What the requests to one store have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkSums {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those of these that met a capacity.
    pub slowed: u64,
}

impl SinkSums {
    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failed: self.failed.saturating_sub(before.failed),
            slowed: self.slowed.saturating_sub(before.slowed),
        }
    }
}

/// What the requests have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestSums {
    /// To S3.
    pub s3: SinkSums,
    /// To DynamoDB.
    pub dynamodb: SinkSums,
}

impl RequestSums {
    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            s3: self.s3.since(&before.s3),
            dynamodb: self.dynamodb.since(&before.dynamodb),
        }
    }
}

#[derive(Debug, Default)]
struct Running {
    requests: AtomicU64,
    failed: AtomicU64,
    slowed: AtomicU64,
}

impl Running {
    fn sums(&self) -> SinkSums {
        SinkSums {
            requests: self.requests.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            slowed: self.slowed.load(Ordering::Relaxed),
        }
    }
}

/// Counters of requests. A clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    requests: Family<OfRequest, Counter>,
    s3: Arc<Running>,
    dynamodb: Arc<Running>,
}

impl Requests {
    /// A request has ended. `operation`: as AWS calls it.
    pub fn count(&self, sink: Sink, operation: &str, outcome: Outcome) {
        let (sink, running) = match sink {
            Sink::S3 => ("s3", &self.s3),
            Sink::DynamoDb => ("dynamodb", &self.dynamodb),
        };
        let of = OfRequest {
            sink,
            operation: operation.to_owned(),
            outcome: outcome.name(),
        };
        self.requests.get_or_create(&of).inc();
        running.requests.fetch_add(1, Ordering::Relaxed);
        if outcome.is_failure() {
            running.failed.fetch_add(1, Ordering::Relaxed);
        }
        if outcome == Outcome::SlowDown {
            running.slowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What they have come to.
    pub fn sums(&self) -> RequestSums {
        RequestSums {
            s3: self.s3.sums(),
            dynamodb: self.dynamodb.sums(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests to S3 and DynamoDB, each try by itself, by operation and what came of it",
            self.requests.clone(),
        );
    }
}
