//! One row of comma-separated values (RFC 4180), by the names of its columns. Values are texts.

use csv_core::{ReadRecordResult, ReaderBuilder};

use super::super::Row;
use super::put;

pub(super) fn parse(text: &str, columns: &[String], separator: u8) -> Result<Row, &'static str> {
    const COLUMNS: &str = "not as many columns as configured";
    let mut reader = ReaderBuilder::new().delimiter(separator).build();
    // Taking quotes away makes nothing longer.
    let mut values = vec![0; text.len()];
    let mut ends = vec![0; columns.len() + 1];
    let (mut read, mut written, mut n_ends) = (0, 0, 0);
    loop {
        // Nothing more to read is how the reader learns that the row ends.
        let (result, n_in, n_out, n_end) = reader.read_record(
            &text.as_bytes()[read..],
            &mut values[written..],
            &mut ends[n_ends..],
        );
        (read, written, n_ends) = (read + n_in, written + n_out, n_ends + n_end);
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::Record => break,
            ReadRecordResult::OutputFull
            | ReadRecordResult::OutputEndsFull
            | ReadRecordResult::End => return Err(COLUMNS),
        }
    }
    if !text[read..].trim().is_empty() {
        return Err("more than one row of values");
    }
    if n_ends != columns.len() {
        return Err(COLUMNS);
    }
    let mut row = Row::new();
    let mut start = 0;
    for (name, end) in columns.iter().zip(&ends) {
        let value = String::from_utf8_lossy(&values[start..*end]);
        put(&mut row, name, value.into_owned().into())?;
        start = *end;
    }
    Ok(row)
}
