//! Large objects, in parts. An upload that does not come to its end is aborted here; one that a
//! crash cut off is found and aborted by whoever takes the partition over. (A lifecycle rule for
//! incomplete uploads is still good to have: a loader that never comes back cannot clean up.)

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::encode::Content;
use crate::store::s3::options::{S3Options, described};
use crate::store::s3::{CONTENT, S3, is_data, status};
use crate::store::{StoreError, Stored};

/// Smallest part: S3 allows 5 MiB, and each is a request.
const PART_BYTES_MIN: usize = 16 * 1024 * 1024;
/// Most parts of one object: S3 allows 10,000.
const PARTS_MAX: usize = 5000;

impl S3Options {
    /// Requests that are charged to store an object of so many bytes.
    pub fn requests(&self, bytes: usize) -> u64 {
        match bytes > self.multipart_above {
            true => bytes.div_ceil(part_bytes(bytes)) as u64 + 2,
            false => 1,
        }
    }
}

fn part_bytes(bytes: usize) -> usize {
    PART_BYTES_MIN.max(bytes.div_ceil(PARTS_MAX))
}

impl S3 {
    /// Stores an object in parts unless one of its name is there.
    pub(super) async fn put_parts(
        &self,
        key: &str,
        bytes: &Bytes,
        content: Content,
    ) -> Result<Stored, StoreError> {
        // An attempt before may have come to its end unheard: that is cheaper to ask than to repeat.
        if let Some(found) = self.look(key, content).await? {
            return Ok(found);
        }
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.settings.bucket)
            .key(self.key(key))
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .metadata(CONTENT, content.to_string());
        let created = described!(request, &self.settings.options, is_data(key))
            .send()
            .await
            .map_err(|error| self.failed("begin the upload of", key, &error))?;
        let id = created.upload_id().unwrap_or_default().to_owned();
        let stored = self.parts_and_end(key, &id, bytes, content).await;
        if stored.is_err() {
            self.abort(&self.key(key), &id).await;
        }
        stored
    }

    async fn parts_and_end(
        &self,
        key: &str,
        id: &str,
        bytes: &Bytes,
        content: Content,
    ) -> Result<Stored, StoreError> {
        let size = part_bytes(bytes.len());
        let mut parts = Vec::new();
        for (number, from) in (1..).zip((0..bytes.len()).step_by(size)) {
            let part = bytes.slice(from..bytes.len().min(from + size));
            let sent = self
                .client
                .upload_part()
                .bucket(&self.settings.bucket)
                .key(self.key(key))
                .set_expected_bucket_owner(self.settings.options.owner.clone())
                .upload_id(id)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .body(ByteStream::from(part))
                .send()
                .await
                .map_err(|error| self.failed("send a part of", key, &error))?;
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag)
                    .set_checksum_crc32_c(sent.checksum_crc32_c)
                    .build(),
            );
        }
        let ended = self
            .client
            .complete_multipart_upload()
            .bucket(&self.settings.bucket)
            .key(self.key(key))
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .upload_id(id)
            .set_if_none_match(self.settings.options.conditional.then(|| "*".to_owned()))
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .send()
            .await;
        match ended {
            Ok(_) => Ok(Stored::Written),
            Err(error) if status(&error) == Some(412) => {
                self.abort(&self.key(key), id).await;
                self.same(key, content).await
            }
            Err(error) => Err(self.failed("end the upload of", key, &error)),
        }
    }

    /// Gives up an upload. One that cannot be given up now is found again by [`S3::abort_unfinished`].
    async fn abort(&self, whole_key: &str, id: &str) {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(&self.settings.bucket)
            .key(whole_key)
            .set_expected_bucket_owner(self.settings.options.owner.clone())
            .upload_id(id)
            .send()
            .await;
        if let Err(error) = aborted
            && error.code() != Some("NoSuchUpload")
        {
            let error = self.failed("abort the upload of", whole_key, &error);
            tracing::debug!(%error, "an unfinished upload stays; whoever takes the partition over aborts it");
        }
    }

    /// Aborts unfinished uploads of objects that `ours` tells by their key below the prefix.
    pub(in crate::store) async fn abort_unfinished(
        &self,
        ours: impl Fn(&str) -> bool,
    ) -> Result<usize, StoreError> {
        let mut aborted = 0;
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(&self.settings.bucket)
                .set_expected_bucket_owner(self.settings.options.owner.clone())
                .prefix(&self.settings.prefix)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .send()
                .await
                .map_err(|error| self.failed("list the unfinished uploads of", "", &error))?;
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else {
                    continue;
                };
                if key.strip_prefix(&self.settings.prefix).is_some_and(&ours) {
                    self.abort(key, id).await;
                    aborted += 1;
                }
            }
            if page.is_truncated() != Some(true) {
                return Ok(aborted);
            }
            key_marker = page.next_key_marker;
            id_marker = page.next_upload_id_marker;
        }
    }
}
