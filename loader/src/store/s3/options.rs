//! How objects lie in a bucket: encryption, class, tags, whose the bucket is.

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use std::collections::BTreeMap;
use std::time::Duration;

/// How S3 encrypts what is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket says.
    #[default]
    Bucket,
    /// With S3's own keys (SSE-S3).
    S3,
    /// With a key of KMS (SSE-KMS), through the bucket key, so that not every object costs a request
    /// to KMS. No key: the account's own for S3.
    Kms(Option<String>),
}

/// What is asked of S3 beside the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// Encryption of everything that is written.
    pub encryption: Encryption,
    /// Storage class of data; state and configurations, which are read again, keep the bucket's.
    pub storage_class: Option<String>,
    /// Tags of data.
    pub tags: BTreeMap<String, String>,
    /// Account that must own the bucket.
    pub owner: Option<String>,
    /// Whether the store knows `If-None-Match`. Without it a HEAD before each write takes its place.
    pub conditional: bool,
    /// Objects above this many bytes go in parts.
    pub multipart_above: usize,
    /// How long S3 may take to answer a request.
    pub timeout: Duration,
}

/// The classes that S3 has for objects of a general-purpose bucket.
pub const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
];

/// Sets encryption, class and tags on a request that creates an object.
macro_rules! described {
    ($request:expr, $options:expr, $is_data:expr) => {{
        let options: &crate::store::s3::options::S3Options = $options;
        let is_data: bool = $is_data;
        let (encryption, key, bucket_key) = options.encryption.asked();
        $request
            .set_expected_bucket_owner(options.owner.clone())
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(key)
            .set_bucket_key_enabled(bucket_key)
            .set_storage_class(options.class(is_data))
            .set_tagging(options.tagging(is_data))
    }};
}
pub(super) use described;

impl Encryption {
    /// Algorithm, key, bucket key, as a request names them.
    pub(super) fn asked(&self) -> (Option<ServerSideEncryption>, Option<String>, Option<bool>) {
        match self {
            Self::Bucket => (None, None, None),
            Self::S3 => (Some(ServerSideEncryption::Aes256), None, None),
            Self::Kms(key) => (Some(ServerSideEncryption::AwsKms), key.clone(), Some(true)),
        }
    }
}

impl S3Options {
    pub(super) fn class(&self, is_data: bool) -> Option<StorageClass> {
        let class = self.storage_class.as_deref().filter(|_| is_data)?;
        Some(StorageClass::from(class))
    }

    /// Tags as a header carries them: a query string.
    pub(super) fn tagging(&self, is_data: bool) -> Option<String> {
        let pair = |(key, value): (&String, &String)| format!("{}={}", query(key), query(value));
        let tags: Vec<String> = self.tags.iter().map(pair).collect();
        (is_data && !tags.is_empty()).then(|| tags.join("&"))
    }

    /// Everything that is wrong with them.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(class) = &self.storage_class
            && !STORAGE_CLASSES.contains(&class.as_str())
        {
            problems.push(format!(
                "output.s3.storage_class {class:?}: S3 has {}",
                STORAGE_CLASSES.join(", ")
            ));
        }
        let fits = |(key, value): (&String, &String)| {
            (1..=128).contains(&key.chars().count())
                && value.chars().count() <= 256
                && !key.starts_with("aws:")
        };
        if self.tags.len() > 10 || !self.tags.iter().all(fits) {
            problems.push(
                "output.s3.tags: S3 allows 10 tags, keys of 1 to 128 characters not beginning with aws:, values of up to 256"
                    .into(),
            );
        }
        let account =
            |owner: &String| owner.len() == 12 && owner.bytes().all(|b| b.is_ascii_digit());
        if self.owner.as_ref().is_some_and(|owner| !account(owner)) {
            problems
                .push("output.s3.expected_bucket_owner: an AWS account has twelve digits".into());
        }
        // S3 has parts of 5 MiB to 5 GiB, and one PUT of up to 5 GiB.
        let allowed = 5 * 1024 * 1024..=4 * 1024 * 1024 * 1024_usize;
        if !allowed.contains(&self.multipart_above) {
            problems.push("output.s3.multipart_above: 5MiB to 4GiB are allowed".into());
        }
        if self.timeout < Duration::from_millis(100) {
            problems.push("output.s3.timeout: 100ms are the least".into());
        }
        problems
    }
}

fn query(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let written = write!(out, "%{byte:02X}");
            debug_assert!(written.is_ok(), "a String takes every byte");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_a_query_and_problems_are_told() {
        let mut options = S3Options {
            encryption: Encryption::Bucket,
            storage_class: None,
            tags: BTreeMap::from([("cost centre".into(), "a&b=c/ü".into())]),
            owner: Some("123456789012".into()),
            conditional: true,
            multipart_above: 64 << 20,
            timeout: Duration::from_secs(60),
        };
        assert_eq!(
            options.tagging(true).as_deref(),
            Some("cost%20centre=a%26b%3Dc%2F%C3%BC")
        );
        assert_eq!(options.tagging(false), None);
        assert_eq!(options.problems(), Vec::<String>::new());
        options.storage_class = Some("COLD".into());
        options.owner = Some("me".into());
        options.multipart_above = 1;
        options.timeout = Duration::ZERO;
        options.tags = BTreeMap::from([("aws:x".into(), String::new())]);
        assert_eq!(options.problems().len(), 5);
    }
}
