//! Counts what a client of AWS asks and what comes of it: each request that is sent has one outcome,
//! whoever tries it again, and whether or not somebody still waits for it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::Error;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata, OrchestratorError};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use serde::Deserialize;

use crate::metrics::{Outcome, Requests, Sink};

/// Goes into a client, and counts.
#[derive(Debug)]
pub(super) struct Counted {
    sink: Sink,
    requests: Requests,
}

impl Counted {
    pub(super) fn new(sink: Sink, requests: &Requests) -> Self {
        Self {
            sink,
            requests: requests.clone(),
        }
    }
}

/// A request that is under way. Dropped with whoever waits for it, it was cut off.
struct UnderWay {
    sink: Sink,
    requests: Requests,
    operation: String,
    ended: AtomicBool,
}

impl UnderWay {
    fn ends(&self, outcome: Outcome) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.requests.count(self.sink, &self.operation, outcome);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.ends(Outcome::CutOff);
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)
    }
}

impl Storable for UnderWay {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Counted {
    fn name(&self) -> &'static str {
        "Counted"
    }

    fn read_before_transmit(
        &self,
        _request: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let under_way = UnderWay {
            sink: self.sink,
            requests: self.requests.clone(),
            operation: operation(cfg),
            ended: AtomicBool::new(false),
        };
        cfg.interceptor_state().store_put(under_way);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        attempt: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let under_way = cfg.load::<UnderWay>();
        let under_way = under_way.filter(|it| !it.ended.load(Ordering::Relaxed));
        match (under_way, attempt.output_or_error()) {
            (Some(under_way), Some(came)) => {
                under_way.ends(outcome(came.err(), attempt.response()));
            }
            (Some(under_way), None) => under_way.ends(Outcome::NoAnswer),
            (None, _) => (self.requests).count(self.sink, &operation(cfg), Outcome::NotSent),
        }
        Ok(())
    }
}

/// As AWS calls it.
fn operation(cfg: &ConfigBag) -> String {
    let metadata = cfg.load::<Metadata>();
    metadata.map_or("unknown", Metadata::name).to_owned()
}

/// What came of a request that was sent.
fn outcome(error: Option<&OrchestratorError<Error>>, response: Option<&HttpResponse>) -> Outcome {
    let Some(error) = error else {
        return Outcome::Ok;
    };
    let connector = error.as_connector_error();
    if error.is_timeout_error() || connector.is_some_and(|error| error.is_timeout()) {
        return Outcome::TimedOut;
    }
    match response {
        Some(response) => {
            let body = response.body().bytes().unwrap_or_default();
            said(response.status().as_u16(), code(body).as_deref())
        }
        None => Outcome::NoAnswer,
    }
}

/// What an answer that is an error says. DynamoDB tells most by its code, S3 by its status; S3 may also put
/// an error behind status 200, when an upload in parts ends.
fn said(status: u16, code: Option<&str>) -> Outcome {
    match (status, code.unwrap_or_default()) {
        (429, _)
        | (
            _,
            "SlowDown"
            | "ThrottlingException"
            | "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded",
        ) => Outcome::SlowDown,
        (412, _) | (_, "ConditionalCheckFailedException") => Outcome::ConditionFailed,
        (409, _) | (_, "TransactionConflictException") => Outcome::Conflict,
        (404, _) | (_, "ResourceNotFoundException") => Outcome::NotFound,
        (401 | 403, _)
        | (
            _,
            "AccessDeniedException" | "UnrecognizedClientException" | "InvalidSignatureException",
        ) => Outcome::Denied,
        // It did not hear the whole request in time.
        (_, "RequestTimeout") => Outcome::TimedOut,
        (400..500, _) => Outcome::Refused,
        _ => Outcome::ServerError,
    }
}

/// The code of an error, as S3 (XML) or DynamoDB (JSON, behind a `#`) writes it.
fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(rename = "__type")]
        code: String,
    }
    let text = std::str::from_utf8(body).ok()?;
    if let Some((_, rest)) = text.split_once("<Code>") {
        let (code, _) = rest.split_once("</Code>")?;
        return Some(code.to_owned());
    }
    let Said { code } = serde_json::from_str(text).ok()?;
    Some(code.rsplit('#').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_by_its_status_or_its_code() {
        let xml = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        let json = |code: &str| format!("{{\"__type\":\"com.amazonaws.dynamodb#{code}\",\"m\":1}}");
        for (status, body, expected) in [
            (503, xml("SlowDown"), Outcome::SlowDown),
            (503, xml("ServiceUnavailable"), Outcome::ServerError),
            (200, xml("InternalError"), Outcome::ServerError),
            (429, String::new(), Outcome::SlowDown),
            (412, xml("PreconditionFailed"), Outcome::ConditionFailed),
            (409, xml("ConditionalRequestConflict"), Outcome::Conflict),
            (404, String::new(), Outcome::NotFound),
            (403, xml("AccessDenied"), Outcome::Denied),
            (400, xml("RequestTimeout"), Outcome::TimedOut),
            (400, xml("InvalidArgument"), Outcome::Refused),
            (
                400,
                json("ConditionalCheckFailedException"),
                Outcome::ConditionFailed,
            ),
            (
                400,
                json("ProvisionedThroughputExceededException"),
                Outcome::SlowDown,
            ),
            (400, json("ResourceNotFoundException"), Outcome::NotFound),
            (400, json("AccessDeniedException"), Outcome::Denied),
            (400, json("ValidationException"), Outcome::Refused),
            (500, json("InternalServerError"), Outcome::ServerError),
        ] {
            let said = said(status, code(body.as_bytes()).as_deref());
            assert_eq!(said, expected, "{status} {body}");
        }
    }

    #[test]
    fn a_request_has_one_outcome_and_one_that_nobody_waits_for_is_cut_off() {
        let requests = Requests::default();
        let begin = || UnderWay {
            sink: Sink::S3,
            requests: requests.clone(),
            operation: "PutObject".to_owned(),
            ended: AtomicBool::new(false),
        };
        let ended = begin();
        ended.ends(Outcome::SlowDown);
        ended.ends(Outcome::Ok);
        drop(ended);
        drop(begin());
        let sums = requests.sums().s3;
        assert_eq!((sums.requests, sums.failed, sums.slowed), (2, 1, 1));
        assert_eq!(requests.sums().dynamodb.requests, 0);
    }
}
