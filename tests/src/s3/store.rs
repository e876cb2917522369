//! What the S3 server holds: buckets, objects and unfinished uploads, in memory under one lock.
//!
//! Every change is one step under that lock, so of any number of conditional writes to one key
//! exactly one wins. No protocol, no faults, no clock of its own.

use super::checksums::{hex, md5};
use hyper::body::Bytes;
use s3s::dto::{Checksum, ETag, ETagCondition};
use s3s::{S3Result, s3_error};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// S3's bound for every part but the last.
const PART_BYTES_MIN: usize = 5 * 1024 * 1024;

/// What a client may say about an object beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// `x-amz-meta-*`, without the prefix.
    pub metadata: HashMap<String, String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `x-amz-storage-class`.
    pub storage_class: Option<String>,
    /// `x-amz-server-side-encryption`.
    pub encryption: Option<String>,
    /// `x-amz-server-side-encryption-aws-kms-key-id`.
    pub kms_key: Option<String>,
    /// `x-amz-tagging`, as sent.
    pub tagging: Option<String>,
}

/// A stored object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// The entity tag, without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: SystemTime,
    /// What was said about it.
    pub attributes: Attributes,
    pub(super) checksum: Checksum,
}

/// The `If-None-Match` and `If-Match` of a write.
#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_match: Option<ETagCondition>,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) checksum: Checksum,
}

#[derive(Debug)]
pub(super) struct Upload {
    bucket: String,
    key: String,
    attributes: Attributes,
    /// The checksum that each part must name when the upload is completed.
    pub(super) algorithm: Option<String>,
    pub(super) parts: BTreeMap<i32, Part>,
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Object)>,
    pub(super) prefixes: Vec<String>,
    /// Where the next page goes on: after this key or this common prefix.
    pub(super) next: Option<String>,
}

/// What to list.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) start_after: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) max: usize,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: BTreeMap<String, Upload>,
    uploads_ever: u64,
}

impl Store {
    /// Creates a bucket; false if it was there.
    pub(super) fn create_bucket(&self, name: &str) -> bool {
        let mut inner = self.lock();
        let missing = !inner.buckets.contains_key(name);
        inner.buckets.entry(name.to_owned()).or_default();
        missing
    }

    pub(super) fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let mut inner = self.lock();
        if !inner.bucket(name)?.is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        inner.buckets.remove(name);
        Ok(())
    }

    pub(super) fn buckets(&self) -> Vec<String> {
        self.lock().buckets.keys().cloned().collect()
    }

    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> S3Result<()> {
        let mut inner = self.lock();
        let objects = inner.bucket_mut(bucket)?;
        condition.check(objects.get(key))?;
        objects.insert(key.to_owned(), object);
        Ok(())
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let inner = self.lock();
        let object = inner.bucket(bucket)?.get(key);
        object.cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// Deletes an object; one that is not there is no error, as in S3.
    pub(super) fn delete(&self, bucket: &str, key: &str, condition: &Condition) -> S3Result<()> {
        let mut inner = self.lock();
        let objects = inner.bucket_mut(bucket)?;
        condition.check(objects.get(key))?;
        objects.remove(key);
        Ok(())
    }

    pub(super) fn all(&self, bucket: &str, prefix: &str) -> S3Result<Vec<(String, Object)>> {
        let inner = self.lock();
        let found = inner.bucket(bucket)?.range(prefix.to_owned()..);
        Ok(found
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect())
    }

    pub(super) fn list(&self, bucket: &str, query: &Query<'_>) -> S3Result<Page> {
        let inner = self.lock();
        let objects = inner.bucket(bucket)?;
        let after = query.token.or(query.start_after).unwrap_or("");
        let first = if after < query.prefix {
            Bound::Included(query.prefix)
        } else {
            Bound::Excluded(after)
        };
        let mut page = Page::default();
        if query.max == 0 {
            return Ok(page);
        }
        let mut last = String::new();
        for (key, object) in objects.range::<str, _>((first, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(query.prefix) else {
                break;
            };
            let cut = query
                .delimiter
                .and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
            let group = cut.map(|cut| format!("{}{}", query.prefix, &rest[..cut]));
            if let Some(group) = &group
                && (page.prefixes.last() == Some(group) || query.token == Some(group.as_str()))
            {
                continue;
            }
            if page.objects.len() + page.prefixes.len() >= query.max {
                page.next = Some(last);
                break;
            }
            last = group.clone().unwrap_or_else(|| key.clone());
            match group {
                Some(group) => page.prefixes.push(group),
                None => page.objects.push((key.clone(), object.clone())),
            }
        }
        Ok(page)
    }

    pub(super) fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
        algorithm: Option<String>,
    ) -> S3Result<String> {
        let mut inner = self.lock();
        inner.bucket(bucket)?;
        inner.uploads_ever += 1;
        let id = format!("upload-{:08}", inner.uploads_ever);
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            attributes,
            algorithm,
            parts: BTreeMap::new(),
        };
        inner.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    pub(super) fn put_part(&self, place: &Place<'_>, number: i32, part: Part) -> S3Result<()> {
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(InvalidArgument, "a part number is 1 to 10000"));
        }
        self.lock().upload(place)?.parts.insert(number, part);
        Ok(())
    }

    /// Makes the object of the chosen parts. `accept` sees the upload first and may refuse.
    pub(super) fn complete(
        &self,
        place: &Place<'_>,
        chosen: &[(i32, String)],
        condition: &Condition,
        modified: SystemTime,
        accept: impl FnOnce(&Upload) -> S3Result<()>,
    ) -> S3Result<String> {
        let mut inner = self.lock();
        let upload = inner.upload(place)?;
        accept(upload)?;
        let (bytes, etag) = upload.join(chosen)?;
        let attributes = upload.attributes.clone();
        let objects = inner.bucket_mut(place.bucket)?;
        // On a failed condition the upload stays, as in S3: the client aborts it.
        condition.check(objects.get(place.key))?;
        let object = Object {
            checksum: super::checksums::verify(&Checksum::default(), None, &bytes)?,
            bytes,
            etag: etag.clone(),
            modified,
            attributes,
        };
        objects.insert(place.key.to_owned(), object);
        inner.uploads.remove(place.upload);
        Ok(etag)
    }

    pub(super) fn abort(&self, place: &Place<'_>) -> S3Result<()> {
        let mut inner = self.lock();
        inner.upload(place)?;
        inner.uploads.remove(place.upload);
        Ok(())
    }

    /// Removes a bucket with all that lies in it.
    pub(super) fn lose_bucket(&self, name: &str) {
        let mut inner = self.lock();
        inner.buckets.remove(name);
        inner.uploads.retain(|_, upload| upload.bucket != name);
    }

    /// Removes a bucket's unfinished uploads.
    pub(super) fn lose_uploads(&self, bucket: &str) {
        let mut inner = self.lock();
        inner.uploads.retain(|_, upload| upload.bucket != bucket);
    }

    /// Returns a bucket's unfinished uploads: key and id.
    pub(super) fn uploads(&self, bucket: &str) -> Vec<(String, String)> {
        let inner = self.lock();
        let uploads = inner.uploads.iter();
        uploads
            .filter(|(_, upload)| upload.bucket == bucket)
            .map(|(id, upload)| (upload.key.clone(), id.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an upload belongs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) upload: &'a str,
}

impl Inner {
    fn bucket(&self, name: &str) -> S3Result<&BTreeMap<String, Object>> {
        self.buckets
            .get(name)
            .ok_or_else(|| s3_error!(NoSuchBucket))
    }

    fn bucket_mut(&mut self, name: &str) -> S3Result<&mut BTreeMap<String, Object>> {
        self.buckets
            .get_mut(name)
            .ok_or_else(|| s3_error!(NoSuchBucket))
    }

    fn upload(&mut self, place: &Place<'_>) -> S3Result<&mut Upload> {
        self.bucket(place.bucket)?;
        self.uploads
            .get_mut(place.upload)
            .filter(|upload| upload.bucket == place.bucket && upload.key == place.key)
            .ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

impl Upload {
    fn join(&self, chosen: &[(i32, String)]) -> S3Result<(Bytes, String)> {
        if chosen.is_empty() {
            return Err(s3_error!(MalformedXML, "an upload has at least one part"));
        }
        if chosen.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut bytes = Vec::new();
        let mut digests = Vec::new();
        for (place, (number, etag)) in chosen.iter().enumerate() {
            let part = self.parts.get(number);
            let part = part.filter(|part| hex(&md5(&part.bytes)) == *etag);
            let part = part.ok_or_else(|| s3_error!(InvalidPart))?;
            if place + 1 < chosen.len() && part.bytes.len() < PART_BYTES_MIN {
                return Err(s3_error!(EntityTooSmall));
            }
            bytes.extend_from_slice(&part.bytes);
            digests.extend(md5(&part.bytes));
        }
        let etag = format!("{}-{}", hex(&md5(&digests)), chosen.len());
        Ok((bytes.into(), etag))
    }
}

impl Condition {
    fn check(&self, present: Option<&Object>) -> S3Result<()> {
        let matches = |wanted: &ETagCondition, object: &Object| match wanted {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => *etag == ETag::Strong(object.etag.clone()),
        };
        if let (Some(wanted), Some(object)) = (&self.if_none_match, present)
            && matches(wanted, object)
        {
            return Err(s3_error!(PreconditionFailed));
        }
        match (&self.if_match, present) {
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(wanted), Some(object)) if !matches(wanted, object) => {
                Err(s3_error!(PreconditionFailed))
            }
            _ => Ok(()),
        }
    }
}
