//! What is stored of a record that could not be made a row: all of it, with the reason.

use serde_json::Value;

use super::rows::write_row;
use super::{Pipeline, Record};
use crate::fetched::Identity;
use crate::transform::{Row, StepFile};

/// Why a record is a dead letter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// The step that it failed in, from 1.
    pub(super) step: Option<usize>,
}

impl Pipeline {
    pub(super) fn dead_letter<'a>(
        &self,
        record: Record<'_>,
        clock_ms: u64,
        refusal: &Refusal,
        line: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        use base64::Engine;
        let mut row = Row::new();
        row.insert("reason".into(), refusal.reason.as_str().into());
        if let Some(step) = refusal.step {
            let name = self.spec.transform.get(step - 1).map_or("", StepFile::name);
            row.insert("step".into(), format!("{step} ({name})").into());
        }
        row.insert("topic".into(), record.topic.into());
        row.insert("partition".into(), record.partition.into());
        row.insert("offset".into(), record.entry.offset.into());
        row.insert("batch_ms".into(), clock_ms.into());
        if let Identity::Tagged {
            stream,
            generation,
            span,
            ..
        } = &record.entry.identity
        {
            row.insert("stream".into(), (&**stream).into());
            row.insert(
                "span".into(),
                format!("{generation}:{}+{}", span.start(), span.len()).into(),
            );
        }
        let payload = record
            .value
            .map(|value| base64::engine::general_purpose::STANDARD.encode(value));
        row.insert(
            "value_base64".into(),
            payload.map_or(Value::Null, Value::String),
        );
        write_row(&row, line)
    }
}
