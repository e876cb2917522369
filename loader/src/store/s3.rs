//! S3, or a store that speaks its protocol.
//!
//! Every object is written by one PutObject with `If-None-Match: *`, or above a size in parts whose
//! completion carries the same condition. What an object holds stands in its metadata (`hw-content`:
//! rows, uncompressed bytes and their CRC-32C), so that "already there" can be told from "another
//! object" by a HEAD, whichever version of a compressor wrote it.
//!
//! A store that does not know the condition gets a HEAD before each write instead
//! (`conditional_writes = false`). Exactly-once does not rest on the condition: the boundary in the
//! group makes whoever writes a name write the same content. What is lost without it is the second
//! fence: two groups that write into one output by mistake are then found out only where the HEAD
//! sees the other's object.
//!
//! Where objects are loaded the SDK's own retries are off: the caller retries with its own back-off, for
//! as long as it owns the partition. Commands have the SDK's.

mod failure;
mod multipart;
pub mod options;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use crate::encode::Content;
use crate::metrics::{Requests, Sink};
use crate::name::OWN_FOLDER;
use crate::store::aws::{self, Retries};
use crate::store::counted::Counted;
use crate::store::s3::failure::failure;
use crate::store::s3::options::{S3Options, described};
use crate::store::{Listed, Reading, StoreError, Stored, Version};

/// Metadata key of what an object holds (`x-amz-meta-hw-content` on the wire).
const CONTENT: &str = "hw-content";

/// How to reach a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending in `/`.
    pub prefix: String,
    /// Another endpoint than AWS's.
    pub endpoint: Option<String>,
    /// Region; from the environment or the profile where absent.
    pub region: Option<String>,
    /// `http://endpoint/bucket/key` instead of `http://bucket.endpoint/key`.
    pub path_style: bool,
    /// How objects lie there.
    pub options: S3Options,
}

/// A bucket, or a prefix in one.
#[derive(Debug)]
pub struct S3 {
    client: Client,
    settings: S3Settings,
}

impl S3 {
    /// A client for a bucket, with credentials from the environment as AWS's tools find them. What it asks
    /// is counted in `requests`.
    pub async fn new(settings: S3Settings, retries: Retries, requests: &Requests) -> Self {
        let region = settings.region.as_deref();
        let shared = aws::config(region, settings.options.timeout, retries).await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            .force_path_style(settings.path_style)
            .interceptor(Counted::new(Sink::S3, requests));
        if let Some(endpoint) = &settings.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(config.build()),
            settings,
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.settings.prefix)
    }

    /// See [`super::Store::check`].
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        self.client
            .list_objects_v2()
            .bucket(&self.settings.bucket)
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .prefix(&self.settings.prefix)
            .max_keys(1)
            .send()
            .await
            .map_err(|error| self.failed("list", "", &error))?;
        Ok(())
    }

    /// See [`super::Store::put_new`].
    pub(super) async fn put_new(
        &self,
        key: &str,
        bytes: Bytes,
        content: Content,
    ) -> Result<Stored, StoreError> {
        let options = &self.settings.options;
        if bytes.len() > options.multipart_above {
            return self.put_parts(key, &bytes, content).await;
        }
        if !options.conditional
            && let Some(found) = self.look(key, content).await?
        {
            return Ok(found);
        }
        let request = self
            .client
            .put_object()
            .bucket(&self.settings.bucket)
            .key(self.key(key))
            .set_if_none_match(options.conditional.then(|| "*".to_owned()))
            .metadata(CONTENT, content.to_string())
            .body(ByteStream::from(bytes));
        match described!(request, options, is_data(key)).send().await {
            Ok(_) => Ok(Stored::Written),
            Err(error) if status(&error) == Some(412) => self.same(key, content).await,
            Err(error) => Err(self.failed("put", key, &error)),
        }
    }

    /// Whether the object is there already, with the same content.
    async fn look(&self, key: &str, content: Content) -> Result<Option<Stored>, StoreError> {
        match self.head(key).await {
            Ok(head) => judge(key, &head, content).map(Some),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.failed("head", key, &error)),
        }
    }

    /// What is there under a name that was taken: the same, or something else?
    async fn same(&self, key: &str, content: Content) -> Result<Stored, StoreError> {
        let head = self.head(key).await;
        let head = head.map_err(|error| self.failed("head", key, &error))?;
        judge(key, &head, content)
    }

    async fn head(&self, key: &str) -> Result<HeadObjectOutput, SdkError<HeadObjectError>> {
        self.client
            .head_object()
            .bucket(&self.settings.bucket)
            .key(self.key(key))
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .send()
            .await
    }

    /// See [`super::Store::get`].
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let got = self.get_versioned(key).await?;
        Ok(got.map(|(bytes, _)| bytes))
    }

    /// The head of an object whose body can be read; none where there is no such object.
    async fn begin_get(&self, key: &str) -> Result<Option<GetObjectOutput>, StoreError> {
        let get = self
            .client
            .get_object()
            .bucket(&self.settings.bucket)
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .key(self.key(key))
            .send()
            .await;
        match get {
            Ok(output) => Ok(Some(output)),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            Err(error) => Err(self.failed("get", key, &error)),
        }
    }

    /// See [`super::Store::open`].
    pub(super) async fn open(&self, key: &str) -> Result<Option<Reading>, StoreError> {
        let got = self.begin_get(key).await?;
        Ok(got.map(|output| Reading::S3(key.to_owned(), output.body)))
    }

    /// An object's bytes; none where there is no such object. One above `bytes_max` is not read.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_bounded(
        &self,
        key: &str,
        bytes_max: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(output) = self.begin_get(key).await? else {
            return Ok(None);
        };
        let bytes = output.content_length.and_then(|n| u64::try_from(n).ok());
        if bytes.is_none_or(|bytes| bytes > bytes_max) {
            let bound = headwater_msk::Bytes(bytes_max);
            return Err(StoreError::Refused(format!("{key} is larger than {bound}")));
        }
        read(key, output).await.map(Some)
    }

    /// See [`super::Store::get_versioned`].
    pub(super) async fn get_versioned(
        &self,
        key: &str,
    ) -> Result<Option<(Bytes, Version)>, StoreError> {
        let Some(output) = self.begin_get(key).await? else {
            return Ok(None);
        };
        let version = Version(output.e_tag.clone().unwrap_or_default());
        let bytes = read(key, output).await?;
        Ok(Some((bytes, version)))
    }

    /// See [`super::Store::put_versioned`].
    pub(super) async fn put_versioned(
        &self,
        key: &str,
        bytes: Bytes,
        version: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let options = &self.settings.options;
        let request = self
            .client
            .put_object()
            .bucket(&self.settings.bucket)
            .key(self.key(key))
            .set_if_match(version.map(|version| version.0.clone()))
            .set_if_none_match(version.is_none().then(|| "*".to_owned()))
            .body(ByteStream::from(bytes));
        match described!(request, options, is_data(key)).send().await {
            Ok(output) => Ok(Version(output.e_tag.unwrap_or_default())),
            // 409: another change of it is under way. 404: it was removed.
            Err(error) if matches!(status(&error), Some(409 | 412)) => {
                Err(StoreError::Changed(key.to_owned()))
            }
            Err(error) if error.code() == Some("NoSuchKey") => {
                Err(StoreError::Changed(key.to_owned()))
            }
            Err(error) => Err(self.failed("put", key, &error)),
        }
    }

    /// See [`super::Store::remove`].
    pub(super) async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.client
            .delete_object()
            .bucket(&self.settings.bucket)
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .key(self.key(key))
            .send()
            .await
            .map_err(|error| self.failed("delete", key, &error))?;
        Ok(())
    }

    /// See [`super::Store::list`].
    pub(super) async fn list(
        &self,
        prefix: &str,
        each: &mut impl FnMut(Listed),
    ) -> Result<(), StoreError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.settings.bucket)
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .prefix(self.key(prefix))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed("list", prefix, &error))?;
            for object in page.contents() {
                let key = object
                    .key()
                    .and_then(|key| key.strip_prefix(&self.settings.prefix));
                if let Some(key) = key {
                    each(Listed {
                        key: key.to_owned(),
                        size: object
                            .size()
                            .and_then(|size| size.try_into().ok())
                            .unwrap_or(0),
                        modified_ms: object
                            .last_modified()
                            .and_then(|at| at.to_millis().ok()?.try_into().ok())
                            .unwrap_or(u64::MAX),
                    });
                }
            }
        }
        Ok(())
    }

    fn failed<E>(&self, verb: &str, key: &str, error: &SdkError<E>) -> StoreError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let what = format!(
            "s3://{}/{}{key}",
            self.settings.bucket, self.settings.prefix
        );
        failure(&format!("cannot {verb} {what}"), error)
    }
}

async fn read(key: &str, output: GetObjectOutput) -> Result<Bytes, StoreError> {
    let body = output.body.collect().await;
    body.map(aws_sdk_s3::primitives::AggregatedBytes::into_bytes)
        .map_err(|error| StoreError::Later(format!("cannot read {key}: {error}")))
}

fn judge(key: &str, head: &HeadObjectOutput, content: Content) -> Result<Stored, StoreError> {
    let there = head.metadata().and_then(|metadata| metadata.get(CONTENT));
    let here = content.to_string();
    if there == Some(&here) {
        return Ok(Stored::AlreadyThere);
    }
    Err(StoreError::Conflict {
        key: key.to_owned(),
        there: there.map_or_else(|| "not written by headwater".to_owned(), Clone::clone),
        here,
    })
}

/// Whether an object is rows, not state or a configuration.
fn is_data(key: &str) -> bool {
    !key.starts_with(OWN_FOLDER)
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}
