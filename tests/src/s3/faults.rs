//! Faults that a test orders from the S3 server, and the record of what it was asked.

use crate::clock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An operation of the server. `Any` is for faults only and means all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Every operation.
    Any,
    /// `PutObject`.
    Put,
    /// `GetObject`.
    Get,
    /// `HeadObject`.
    Head,
    /// `ListObjectsV2`.
    List,
    /// `DeleteObject`.
    Delete,
    /// `DeleteObjects`.
    DeleteMany,
    /// `CreateMultipartUpload`.
    CreateMultipart,
    /// `UploadPart`.
    UploadPart,
    /// `CompleteMultipartUpload`.
    CompleteMultipart,
    /// `AbortMultipartUpload`.
    AbortMultipart,
    /// `CreateBucket`, `HeadBucket`, `DeleteBucket`, `ListBuckets`.
    Bucket,
    /// Everything else; mostly answered with `NotImplemented`.
    Other,
}

impl Op {
    /// Returns the operation of that name in the S3 API.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "PutObject" => Self::Put,
            "GetObject" => Self::Get,
            "HeadObject" => Self::Head,
            "ListObjectsV2" => Self::List,
            "DeleteObject" => Self::Delete,
            "DeleteObjects" => Self::DeleteMany,
            "CreateMultipartUpload" => Self::CreateMultipart,
            "UploadPart" => Self::UploadPart,
            "CompleteMultipartUpload" => Self::CompleteMultipart,
            "AbortMultipartUpload" => Self::AbortMultipart,
            "CreateBucket" | "HeadBucket" | "DeleteBucket" | "ListBuckets" => Self::Bucket,
            _ => Self::Other,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 500 `InternalError`; nothing is done.
    Http500,
    /// 503 `ServiceUnavailable`; nothing is done.
    Http503,
    /// 503 `SlowDown`; nothing is done.
    SlowDown,
    /// 409 `ConditionalRequestConflict`, S3's answer to two writers at once; nothing is done.
    Conflict409,
    /// 403 `AccessDenied`; nothing is done.
    Denied,
    /// 200, and an error (`InternalError`) in its body, as S3 may answer what takes it long: the end of an upload in
    /// parts; nothing is done.
    ErrorIn200,
    /// No answer, the connection stays open; nothing is done.
    Timeout,
    /// The request is carried out, then no answer, the connection stays open.
    TimeoutAfterCommit,
    /// The connection is closed without an answer; nothing is done.
    HangUp,
    /// The request is carried out, then the connection is closed without an answer.
    HangUpAfterCommit,
    /// The request is carried out that much later.
    Delay(Duration),
}

/// A fault to order with [`S3::fault`](super::S3::fault). Without [`times`](Self::times) or
/// [`during`](Self::during) it stays until [`S3::clear_faults`](super::S3::clear_faults).
#[derive(Clone, Debug)]
pub struct Fault {
    when: Op,
    kind: Kind,
    key_part: Option<String>,
    left: Option<u32>,
    until: Option<Instant>,
}

impl Fault {
    /// `kind` happens to each `when`.
    pub fn on(when: Op, kind: Kind) -> Self {
        Self {
            when,
            kind,
            key_part: None,
            left: None,
            until: None,
        }
    }

    /// Ends after `count` requests met it.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.left = Some(count);
        self
    }

    /// Ends `duration` from now.
    #[must_use]
    pub fn during(mut self, duration: Duration) -> Self {
        self.until = Some(clock::now() + duration);
        self
    }

    /// Meets only keys that contain `part`.
    #[must_use]
    pub fn for_keys_with(mut self, part: &str) -> Self {
        self.key_part = Some(part.to_owned());
        self
    }

    fn is_over(&self) -> bool {
        self.left == Some(0) || self.until.is_some_and(|until| clock::now() >= until)
    }

    fn meets(&self, op: Op, key: &str) -> bool {
        (self.when == Op::Any || self.when == op)
            && self.key_part.as_ref().is_none_or(|part| key.contains(part))
    }
}

/// One request that was signed well, in the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What was asked.
    pub op: Op,
    /// The bucket, or nothing.
    pub bucket: String,
    /// The key, or nothing.
    pub key: String,
    /// `x-amz-expected-bucket-owner`.
    pub owner: Option<String>,
    /// The HTTP status of the answer; `None` while there is none, and for ever after a time-out.
    pub status: Option<u16>,
    /// The fault that met it.
    pub fault: Option<Kind>,
}

/// Ordered faults and seen requests.
#[derive(Debug, Default)]
pub(super) struct Desk {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    faults: Vec<Fault>,
    requests: Vec<Request>,
}

impl Desk {
    pub(super) fn order(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    pub(super) fn clear(&self) {
        self.lock().faults.clear();
    }

    /// Notes a request and returns its number and the fault it meets: the oldest that fits.
    pub(super) fn arrived(
        &self,
        op: Op,
        (bucket, key): (&str, &str),
        owner: Option<&str>,
    ) -> (usize, Option<Kind>) {
        let mut inner = self.lock();
        inner.faults.retain(|fault| !fault.is_over());
        let met = inner.faults.iter_mut().find(|fault| fault.meets(op, key));
        let fault = met.map(|fault| {
            if let Some(left) = &mut fault.left {
                *left -= 1;
            }
            fault.kind
        });
        inner.requests.push(Request {
            op,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            owner: owner.map(str::to_owned),
            status: None,
            fault,
        });
        (inner.requests.len() - 1, fault)
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        if let Some(request) = self.lock().requests.get_mut(number) {
            request.status = Some(status);
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Forgets the requests so far. Those still under way go on unseen.
    pub(super) fn forget(&self) {
        self.lock().requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
