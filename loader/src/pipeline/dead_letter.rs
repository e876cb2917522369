//! What is stored of a record that could not be made a row: all of it, with the reason.

use serde_json::{Value, json};

use super::rows::write_row;
use super::{Pipeline, Record};
use crate::aggregate::WindowRow;
use crate::fetched::Identity;
use crate::transform::Row;

/// Why a record is a dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// In words; it may carry a part of the record.
    pub reason: String,
    /// The step that it failed in, from 1; none for what fails outside of all steps.
    pub step: Option<usize>,
}

impl Pipeline {
    pub(super) fn dead_letter<'a>(
        &self,
        record: Record<'_>,
        clock_ms: u64,
        (refusal, window): (&Refusal, Option<&WindowRow>),
        line: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        use base64::Engine;
        let mut row = Row::new();
        row.insert("reason".into(), refusal.reason.as_str().into());
        if refusal.step.is_some() {
            row.insert("step".into(), self.step_label(refusal).into());
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
        if let Some(window) = window {
            let window = json!({ "slot": window.slot, "path": window.path });
            row.insert("window".into(), window);
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
