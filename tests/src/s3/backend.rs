//! The S3 operations on the store: only translation between the API's types and ours.

use super::checksums::{hex, md5};
use super::store::{Attributes, Condition, Object, Part, Place, Query, Store};
use super::translate::{
    agree, attributes_of, checksum_of, described, if_unchanged, length, listed, read_checked,
};
use crate::clock;
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Backend {
    pub(super) store: Arc<Store>,
}

type Answer<T> = S3Result<S3Response<T>>;

fn ok<T>(output: T) -> Answer<T> {
    Ok(S3Response::new(output))
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> Answer<CreateBucketOutput> {
        if !self.store.create_bucket(&request.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        ok(CreateBucketOutput {
            location: Some(format!("/{}", request.input.bucket)),
        })
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> Answer<DeleteBucketOutput> {
        self.store.delete_bucket(&request.input.bucket)?;
        ok(DeleteBucketOutput::default())
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        if !self.store.buckets().contains(&request.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        ok(HeadBucketOutput::default())
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let buckets = self.store.buckets().into_iter().map(|name| Bucket {
            name: Some(name),
            ..Bucket::default()
        });
        ok(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..ListBucketsOutput::default()
        })
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let trailers = request.trailing_headers;
        let input = request.input;
        let attributes = attributes_of!(input);
        let sent = checksum_of!(input => Checksum {});
        let condition = Condition {
            if_none_match: input.if_none_match,
            if_match: input.if_match,
        };
        let md5_sent = input.content_md5.as_deref();
        let (bytes, checksum) = read_checked(input.body, sent, md5_sent, trailers.as_ref()).await?;
        let etag = hex(&md5(&bytes));
        let object = Object {
            bytes,
            etag: etag.clone(),
            modified: clock::wall(),
            attributes,
            checksum: checksum.clone(),
        };
        self.store
            .put(&input.bucket, &input.key, object, &condition)?;
        ok(checksum_of!(checksum => PutObjectOutput { e_tag: Some(ETag::Strong(etag)), }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let input = request.input;
        let object = self.store.get(&input.bucket, &input.key)?;
        if_unchanged(
            &object,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
        )?;
        let full = u64::try_from(object.bytes.len()).unwrap_or(u64::MAX);
        let (bytes, content_range) = match input.range {
            None => (object.bytes.clone(), None),
            Some(range) => {
                let part = range.check(full)?;
                let shown = format!("bytes {}-{}/{full}", part.start, part.end - 1);
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                (
                    object.bytes.slice(at(part.start)..at(part.end)),
                    Some(shown),
                )
            }
        };
        let checked = input.checksum_mode.is_some() && content_range.is_none();
        ok(described!(object, checked => GetObjectOutput {
            content_length: length(&bytes),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            accept_ranges: Some("bytes".to_owned()),
            content_range,
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let input = request.input;
        let object = self.store.get(&input.bucket, &input.key)?;
        if_unchanged(
            &object,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
        )?;
        ok(
            described!(object, input.checksum_mode.is_some() => HeadObjectOutput {
                content_length: length(&object.bytes),
            }),
        )
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let input = request.input;
        let token = match &input.continuation_token {
            Some(token) => Some(
                token
                    .strip_prefix("after:")
                    .ok_or_else(|| s3_error!(InvalidArgument, "no such continuation token"))?,
            ),
            None => None,
        };
        // S3 returns at most 1000 a page, whatever is asked.
        let max_keys = input.max_keys.unwrap_or(1000).clamp(0, 1000);
        let page = self.store.list(
            &input.bucket,
            &Query {
                prefix: input.prefix.as_deref().unwrap_or(""),
                delimiter: input.delimiter.as_deref().filter(|text| !text.is_empty()),
                start_after: input.start_after.as_deref(),
                token,
                max: usize::try_from(max_keys).unwrap_or(0),
            },
        )?;
        let count = page.objects.len() + page.prefixes.len();
        let prefixes = page.prefixes.into_iter().map(|prefix| CommonPrefix {
            prefix: Some(prefix),
        });
        ok(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: Some(max_keys),
            key_count: i32::try_from(count).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|last| format!("after:{last}")),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            contents: Some(page.objects.into_iter().map(listed).collect()),
            common_prefixes: Some(prefixes.collect()),
            ..ListObjectsV2Output::default()
        })
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        let input = request.input;
        let condition = Condition {
            if_none_match: None,
            if_match: input.if_match,
        };
        self.store.delete(&input.bucket, &input.key, &condition)?;
        ok(DeleteObjectOutput::default())
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let input = request.input;
        if input.delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML, "more than 1000 keys"));
        }
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            self.store
                .delete(&input.bucket, &object.key, &Condition::default())?;
            deleted.push(DeletedObject {
                key: Some(object.key),
                ..DeletedObject::default()
            });
        }
        let quiet = input.delete.quiet.unwrap_or(false);
        ok(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            ..DeleteObjectsOutput::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = request.input;
        let attributes = attributes_of!(input);
        let algorithm = input.checksum_algorithm.as_ref().map(|a| a.as_str());
        // CRC-64/NVME is always over the full object; the others are so only when asked.
        let full = input.checksum_type.as_ref().map(|kind| kind.as_str()) == Some("FULL_OBJECT")
            || algorithm == Some("CRC64NVME");
        let each_part = algorithm.filter(|_| !full).map(str::to_owned);
        let id = self
            .store
            .create_upload(&input.bucket, &input.key, attributes, each_part)?;
        ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let trailers = request.trailing_headers;
        let input = request.input;
        let sent = checksum_of!(input => Checksum {});
        let md5_sent = input.content_md5.as_deref();
        let (bytes, checksum) = read_checked(input.body, sent, md5_sent, trailers.as_ref()).await?;
        let etag = hex(&md5(&bytes));
        let place = Place {
            bucket: &input.bucket,
            key: &input.key,
            upload: &input.upload_id,
        };
        let part = Part {
            bytes,
            checksum: checksum.clone(),
        };
        self.store.put_part(&place, input.part_number, part)?;
        ok(checksum_of!(checksum => UploadPartOutput { e_tag: Some(ETag::Strong(etag)), }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let input = request.input;
        let parts = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let chosen: Vec<(i32, String)> = parts
            .iter()
            .map(|part| {
                let etag = part
                    .e_tag
                    .clone()
                    .map_or_else(String::new, ETag::into_value);
                (part.part_number.unwrap_or(0), etag)
            })
            .collect();
        let condition = Condition {
            if_none_match: input.if_none_match,
            if_match: input.if_match,
        };
        let place = Place {
            bucket: &input.bucket,
            key: &input.key,
            upload: &input.upload_id,
        };
        let etag = self
            .store
            .complete(&place, &chosen, &condition, clock::wall(), |upload| {
                parts.iter().try_for_each(|part| agree(upload, part))
            })?;
        ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            e_tag: Some(ETag::Strong(etag)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let input = request.input;
        let prefix = input.prefix.as_deref().unwrap_or("");
        let uploads = self.store.uploads(&input.bucket).into_iter();
        let uploads = uploads
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, id)| MultipartUpload {
                key: Some(key),
                upload_id: Some(id),
                ..MultipartUpload::default()
            });
        ok(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            is_truncated: Some(false),
            bucket: Some(input.bucket),
            prefix: input.prefix,
            ..ListMultipartUploadsOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let input = request.input;
        self.store.abort(&Place {
            bucket: &input.bucket,
            key: &input.key,
            upload: &input.upload_id,
        })?;
        ok(AbortMultipartUploadOutput::default())
    }
}
