//! Where rows go and in which form: `[output]` as it is meant, with every problem named.

use std::path::PathBuf;

use crate::config::defaults::ROW_GROUP_RANGE;
use crate::config::file::{ConfigFile, EncryptionFile, S3File};
use crate::encode::Compression;
use crate::format::{Format, Kind};
use crate::name::{KEY_BYTES_MAX, PART_BYTES_MAX, PREFIX_BYTES_MAX, file_bytes_max};
use crate::partition::Layout;
use crate::store::s3::S3Settings;
use crate::store::s3::options::{Encryption, S3Options};

/// Longest path of a folder, in bytes: Linux takes 4095, a longest key among them.
const FOLDER_BYTES_MAX: usize = 4095 - 1 - KEY_BYTES_MAX;

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A bucket.
    S3(Box<S3Settings>),
    /// A local folder.
    Folder(PathBuf),
}

/// How rows are written.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn format(file: &ConfigFile) -> Result<Format, Vec<String>> {
    let output = &file.output;
    let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
    let table = matches!(output.format, Kind::Csv | Kind::Parquet);
    let raw = output.format == Kind::Raw;
    let format = Format {
        kind: output.format,
        columns: match table {
            true => output.column.clone(),
            false => Vec::new(),
        },
        overflow: named(&output.overflow).filter(|_| table),
        raw_field: named(&output.raw_field).filter(|_| raw),
    };
    let mut problems = format.problems();
    if output.format == Kind::Parquet && output.compression == Compression::Gzip {
        problems.push("output.compression: Parquet is written with zstd or none".into());
    }
    match output.row_group {
        Some(_) if output.format != Kind::Parquet => {
            problems.push("output.row_group: only Parquet has row groups".into());
        }
        Some(bytes) if !(ROW_GROUP_RANGE.0..=ROW_GROUP_RANGE.1).contains(&bytes) => {
            let (least, most) = ROW_GROUP_RANGE;
            problems.push(format!(
                "output.row_group is {bytes}: it is {least} to {most}"
            ));
        }
        _ => {}
    }
    if output.format == Kind::Parquet && output.layout == Layout::Record {
        problems.push(
            "output.layout \"record\": a Parquet file of one row is mostly its own schema; take ndjson, csv or raw"
                .into(),
        );
    }
    if raw && !output.column.is_empty() {
        problems.push("output.column: raw lines have no columns".into());
    }
    match problems.is_empty() {
        true => Ok(format),
        false => Err(problems),
    }
}

/// The output that a configuration names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &ConfigFile) -> Result<Output, Vec<String>> {
    let url = &file.output.url;
    let one = |problem: String| Err(vec![problem]);
    if let Some(path) = url.strip_prefix("file://") {
        return match path.starts_with('/') {
            true if file.output.s3 != S3File::default() => one(
                "output.s3: it is for s3:// outputs, and output.url is a folder; remove it".into(),
            ),
            true => match folder_problem(path, &file.kafka.topic) {
                Some(problem) => one(problem),
                None => Ok(Output::Folder(path.into())),
            },
            false => one(format!(
                "output.url {url:?}: a folder is written file:///with/its/whole/path"
            )),
        };
    }
    let Some(rest) = url.strip_prefix("s3://") else {
        return one(format!(
            "output.url {url:?}: it begins with s3:// or file://"
        ));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let (options, mut problems) = s3_options(&file.output.s3);
    if bucket.is_empty() {
        problems.push(format!(
            "output.url {url:?} names no bucket: s3://bucket/prefix"
        ));
    }
    let prefix = prefix.trim_matches('/');
    if prefix.len() > PREFIX_BYTES_MAX || prefix.split('/').any(|part| matches!(part, "." | "..")) {
        problems.push(format!(
            "output.url {url:?}: a prefix has {PREFIX_BYTES_MAX} bytes at most and no '..'"
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Output::S3(Box::new(s3_settings(
        file, bucket, prefix, options,
    ))))
}

/// Why no file could be written into a folder, where none could.
fn folder_problem(folder: &str, topic: &str) -> Option<String> {
    let (file, beside) = (file_bytes_max(topic), file_bytes_max(""));
    if file > PART_BYTES_MAX {
        return Some(format!(
            "kafka.topic: its name is of {} bytes, and in a folder it has {} at most, since it stands in the names of \
             files with {beside} bytes of numbers (of {PART_BYTES_MAX}); s3:// takes it",
            topic.len(),
            PART_BYTES_MAX - beside
        ));
    }
    let long = folder.split('/').any(|part| part.len() > PART_BYTES_MAX);
    (long || folder.len() > FOLDER_BYTES_MAX).then(|| {
        format!(
            "output.url: a folder's path has {FOLDER_BYTES_MAX} bytes at most, and each of its parts {PART_BYTES_MAX}"
        )
    })
}

/// How a bucket of tables is reached: as one of the output's would be, whatever the output is.
pub(super) fn s3_for_tables(file: &ConfigFile) -> S3Settings {
    s3_settings(file, "", "", s3_options(&file.output.s3).0)
}

fn s3_settings(file: &ConfigFile, bucket: &str, prefix: &str, options: S3Options) -> S3Settings {
    S3Settings {
        bucket: bucket.to_owned(),
        prefix: if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        },
        endpoint: file.output.endpoint.clone(),
        region: file.output.region.clone(),
        path_style: file.output.path_style,
        options,
    }
}

fn s3_options(file: &S3File) -> (S3Options, Vec<String>) {
    let encryption = match file.encryption {
        EncryptionFile::Bucket => Encryption::Bucket,
        EncryptionFile::S3 => Encryption::S3,
        EncryptionFile::Kms => Encryption::Kms(file.kms_key.clone()),
    };
    let options = S3Options {
        encryption,
        storage_class: file.storage_class.clone(),
        tags: file.tags.clone(),
        owner: file.expected_bucket_owner.clone(),
        conditional: file.conditional_writes,
        multipart_above: usize::try_from(file.multipart_above.0).unwrap_or(usize::MAX),
        timeout: file.timeout.0,
    };
    let mut problems = options.problems();
    if file.kms_key.is_some() && file.encryption != EncryptionFile::Kms {
        problems.push("output.s3.kms_key needs output.s3.encryption = \"kms\"".into());
    }
    (options, problems)
}
