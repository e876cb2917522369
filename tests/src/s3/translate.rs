//! Between the API's types and the store's: bodies, checksums, conditions, descriptions.

use super::checksums::{add_trailers, values, verify};
use super::store::{Object, Upload};
use hyper::body::Bytes;
use s3s::dto::{Checksum, CompletedPart, ETag, ETagCondition, StreamingBlob};
use s3s::{Body, S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

/// S3's bound for one PUT is 5 GiB; a test that sends more than this has gone wrong.
pub(super) const BODY_BYTES_MAX: usize = 1 << 30;

async fn read(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    Body::from(body)
        .store_all_limited(BODY_BYTES_MAX)
        .await
        .map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))
}

/// Reads a body to its end and checks it against what came before and behind it.
pub(super) async fn read_checked(
    body: Option<StreamingBlob>,
    mut sent: Checksum,
    md5: Option<&str>,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<(Bytes, Checksum)> {
    let bytes = read(body).await?;
    add_trailers(&mut sent, trailers);
    let kept = verify(&sent, md5, &bytes)?;
    Ok((bytes, kept))
}

/// Copies the five checksums between the API's structures.
macro_rules! checksum_of {
    ($from:expr => $to:ident { $($rest:tt)* }) => {
        $to {
            checksum_crc32: $from.checksum_crc32.clone(),
            checksum_crc32c: $from.checksum_crc32c.clone(),
            checksum_crc64nvme: $from.checksum_crc64nvme.clone(),
            checksum_sha1: $from.checksum_sha1.clone(),
            checksum_sha256: $from.checksum_sha256.clone(),
            $($rest)*
            ..Default::default()
        }
    };
}

macro_rules! attributes_of {
    ($input:expr) => {
        Attributes {
            metadata: $input.metadata.clone().unwrap_or_default(),
            content_type: $input.content_type.clone(),
            content_encoding: $input.content_encoding.clone(),
            storage_class: $input.storage_class.as_ref().map(|v| v.as_str().to_owned()),
            encryption: $input
                .server_side_encryption
                .as_ref()
                .map(|v| v.as_str().to_owned()),
            kms_key: $input.ssekms_key_id.clone(),
            tagging: $input.tagging.clone(),
        }
    };
}

/// What `GetObject` and `HeadObject` both tell.
macro_rules! described {
    ($object:expr, $with_checksum:expr => $to:ident { $($rest:tt)* }) => {{
        let object = &$object;
        let nothing = Checksum::default();
        let shown = if $with_checksum { &object.checksum } else { &nothing };
        checksum_of!(shown => $to {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.attributes.metadata.clone()),
            content_type: object.attributes.content_type.clone(),
            content_encoding: object.attributes.content_encoding.clone(),
            storage_class: object.attributes.storage_class.clone().map(StorageClass::from),
            server_side_encryption: object.attributes.encryption.clone().map(ServerSideEncryption::from),
            ssekms_key_id: object.attributes.kms_key.clone(),
            $($rest)*
        })
    }};
}

pub(super) use {attributes_of, checksum_of, described};

pub(super) fn length(bytes: &Bytes) -> Option<i64> {
    i64::try_from(bytes.len()).ok()
}

pub(super) fn listed((key, object): (String, Object)) -> s3s::dto::Object {
    s3s::dto::Object {
        key: Some(key),
        size: length(&object.bytes),
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(object.modified.into()),
        ..s3s::dto::Object::default()
    }
}

/// The `If-Match` and `If-None-Match` of a read.
pub(super) fn if_unchanged(
    object: &Object,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let is = |wanted: &ETagCondition| match wanted {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    };
    if if_match.is_some_and(|wanted| !is(wanted)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.is_some_and(is) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// Refuses a completed part whose checksums are missing or not those of the uploaded one.
pub(super) fn agree(upload: &Upload, part: &CompletedPart) -> S3Result<()> {
    let number = part.part_number.unwrap_or(0);
    let said = checksum_of!(part => Checksum {});
    let nothing_said = values(&said).iter().all(Option::is_none);
    if nothing_said {
        return match &upload.algorithm {
            None => Ok(()),
            Some(algorithm) => Err(s3_error!(
                InvalidRequest,
                "The upload was created using a {algorithm} checksum. The complete request must \
                 include the checksum for each part. It was missing for part {number}"
            )),
        };
    }
    let known = upload.parts.get(&number);
    let known = known.map(|part| values(&part.checksum));
    let wrong = |known: [Option<&String>; 5]| {
        let said = values(&said);
        (0..5).any(|n| said[n].is_some() && said[n] != known[n])
    };
    if known.is_none_or(wrong) {
        return Err(s3_error!(InvalidPart));
    }
    Ok(())
}
