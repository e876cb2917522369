//! What an answer of S3 that is none comes to: whether it may work later, or a person has to help.

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::store::StoreError;
use crate::store::s3::status;

/// Codes of refusals (400 and 403) that pass.
const PASSING: [&str; 3] = ["RequestTimeout", "ExpiredToken", "RequestTimeTooSkewed"];

/// `what`: what could not be done.
pub(super) fn failure<E>(what: &str, error: &SdkError<E>) -> StoreError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match (status(error), error.code()) {
        (_, Some("NoSuchBucket")) => StoreError::Refused(format!(
            "{what}: the bucket does not exist at this endpoint and region; make it, or correct output.url"
        )),
        // Answers that pass: a body that came too slowly, a token that the next request has a newer one for, a clock
        // that is set meanwhile.
        (Some(status), Some(code)) if PASSING.contains(&code) => {
            StoreError::Later(format!("{what}: {status} {code}"))
        }
        (Some(401 | 403), code) => StoreError::Refused(format!(
            "{what}: access denied ({}); the credentials need s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload there, with tags s3:PutObjectTagging, with a key kms:GenerateDataKey and kms:Decrypt; and the bucket must belong to output.s3.expected_bucket_owner where that is set",
            code.unwrap_or("no code")
        )),
        // An upload that somebody aborted: the next attempt begins a new one.
        (Some(404), Some("NoSuchUpload")) => {
            StoreError::Later(format!("{what}: the upload was aborted"))
        }
        (Some(status @ (301 | 307 | 400 | 404 | 405 | 501)), code) => StoreError::Refused(format!(
            "{what}: {status} {}: {}",
            code.unwrap_or("no code"),
            error.message().unwrap_or("no message")
        )),
        (Some(status), code) => {
            StoreError::Later(format!("{what}: {status} {}", code.unwrap_or("no code")))
        }
        (None, _) => StoreError::Later(format!("{what}: {}", DisplayErrorContext(error))),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::head_object::HeadObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answered(status: u16, code: &str) -> StoreError {
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        let error = HeadObjectError::generic(ErrorMetadata::builder().code(code).build());
        failure("cannot put x", &SdkError::service_error(error, response))
    }

    #[test]
    fn what_passes_is_tried_again_and_what_stays_is_told() {
        for (status, code) in [
            (400, "RequestTimeout"),
            (400, "ExpiredToken"),
            (403, "RequestTimeTooSkewed"),
            (404, "NoSuchUpload"),
            (500, "InternalError"),
            (503, "SlowDown"),
        ] {
            let error = answered(status, code);
            assert!(matches!(error, StoreError::Later(_)), "{error:?}");
        }
        for (status, code) in [
            (400, "InvalidArgument"),
            (403, "AccessDenied"),
            (403, "InvalidAccessKeyId"),
            (404, "NoSuchBucket"),
            (501, "NotImplemented"),
        ] {
            let error = answered(status, code);
            assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        }
    }
}
