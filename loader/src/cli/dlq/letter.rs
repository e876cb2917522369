//! A dead letter as it is stored, and how the objects that hold them are read: one letter in memory at a time.

use std::io::{BufRead, BufReader, Read};

use anyhow::Context;
use base64::Engine;
use headwater_record::headers;
use serde::Deserialize;

use crate::aggregate::WindowRow;
use crate::fetched::{Entry, Identity};

/// Longest line that is read: a record of the largest size that a broker may be set to take, as base64.
const LINE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// One dead letter, as it is stored.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct DeadLetter {
    pub(in crate::cli) reason: String,
    #[serde(default)]
    pub(in crate::cli) step: Option<String>,
    pub(in crate::cli) partition: i32,
    pub(in crate::cli) offset: u64,
    pub(super) batch_ms: u64,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    span: Option<String>,
    /// Of a window's row: it is no record, and goes through no step again.
    #[serde(default)]
    window: Option<OfWindow>,
    value_base64: Option<String>,
}

/// Which step a window's row is of.
#[derive(Debug, Clone, Deserialize)]
struct OfWindow {
    /// Its place among the aggregates, where it had one.
    slot: Option<usize>,
    /// Its path, where the step was in the pipeline no longer.
    path: Option<String>,
}

impl DeadLetter {
    /// The record's value; none where it was null.
    ///
    /// # Errors
    /// It is no base64.
    pub(in crate::cli) fn value(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let text = self.value_base64.as_ref();
        text.map(|text| base64::engine::general_purpose::STANDARD.decode(text))
            .transpose()
            .context("value_base64 is no base64")
    }

    /// The window's row that it is of, if it is of one.
    ///
    /// # Errors
    /// Its value is no row.
    pub(super) fn window_row(&self) -> anyhow::Result<Option<WindowRow>> {
        let Some(window) = self.window.clone() else {
            return Ok(None);
        };
        let value = self.value()?.unwrap_or_default();
        let row = serde_json::from_slice(&value).context("a window's row is no JSON object")?;
        Ok(Some(WindowRow {
            slot: window.slot,
            path: window.path,
            row,
        }))
    }

    /// Its record's place and identity. Its time is the clock of its batch: Kafka's is not kept.
    pub(super) fn entry(&self) -> Entry {
        let mut entry = Entry::foreign(self.offset, self.batch_ms);
        if let (Some(stream), Some(span)) = (&self.stream, &self.span) {
            let tags = [(headers::STREAM, stream), (headers::SPAN, span)];
            let tags = tags.map(|(name, text)| (name, Some(text.as_bytes())));
            entry.identity = Identity::read(tags.into_iter(), None);
        }
        entry
    }
}

/// Gives the dead letters of an object to `each`, one in memory at a time.
///
/// # Errors
/// It cannot be read, holds something else, or `each` fails.
pub(super) fn each_letter(
    key: &str,
    reader: impl Read,
    mut each: impl FnMut(DeadLetter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let reader: Box<dyn Read + '_> = match key.rsplit('.').next() {
        Some("zst") => Box::new(zstd::Decoder::new(reader)?),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        _ => Box::new(reader),
    };
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {key}"))? == 0 {
            return Ok(());
        }
        let letter = serde_json::from_slice(&line);
        each(letter.with_context(|| format!("{key} holds no dead letters"))?)?;
    }
}

/// The dead letters of an object.
///
/// # Errors
/// It holds something else.
pub(in crate::cli) fn parse(key: &str, bytes: &[u8]) -> anyhow::Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    each_letter(key, bytes, |letter| {
        letters.push(letter);
        Ok(())
    })?;
    Ok(letters)
}
