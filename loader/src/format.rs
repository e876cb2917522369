//! What a row is written as. Pure: a row in, one line (or one packed row of Parquet's) out.
//!
//! ```toml
//! [output]
//! format = "parquet"          # ndjson (default), raw, csv, parquet
//! overflow = "_rest"          # the column, as JSON, of what the others do not take; "" for none
//!
//! [[output.column]]
//! name = "time"               # of the row's field, and of the column
//! type = "timestamp"          # string, int, float, bool, timestamp, json
//! ```
//!
//! A value that its column's type cannot hold is null there and goes to the overflow column as it
//! was, as every field does that has no column: a declared schema loses nothing. Where there is no
//! overflow column, such a value makes its record a dead letter, and undeclared fields are left out,
//! as configured.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::transform::Row;

/// Columns that a table may have: beyond that a row is no row of a table.
pub const COLUMNS_MAX: usize = 1000;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JSON object a line.
    #[default]
    Ndjson,
    /// One field of the row, or the record's value as it came, a line.
    Raw,
    /// RFC 4180, with a header line in each object.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Text; numbers, booleans and structures as their JSON.
    String,
    /// 64-bit whole number; a text that is one counts.
    Int,
    /// 64-bit floating point; a text that is one counts.
    Float,
    /// true or false, as a text too.
    Bool,
    /// RFC 3339 text, kept to the millisecond, in UTC.
    Timestamp,
    /// Any value, as JSON text.
    Json,
}

/// A declared column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Of the row's field, and of the column.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// A format, as it is stored with the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Which.
    pub kind: Kind,
    /// Columns of CSV and Parquet; for NDJSON only `ddl` looks at them.
    pub columns: Vec<Column>,
    /// Name of the overflow column.
    pub overflow: Option<String>,
    /// The field that a raw line is; none for the record's whole value.
    pub raw_field: Option<String>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            kind: Kind::Ndjson,
            columns: Vec::new(),
            overflow: None,
            raw_field: None,
        }
    }
}

impl Format {
    /// Everything that is wrong with it.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let table = matches!(self.kind, Kind::Csv | Kind::Parquet);
        if table && self.columns.is_empty() {
            problems.push(format!(
                "output.format {:?} needs [[output.column]], one for each column; `headwater-loader columns` finds them in a sample",
                self.kind
            ));
        }
        if self.columns.len() > COLUMNS_MAX {
            problems.push(format!("output.column: more than {COLUMNS_MAX} of them"));
        }
        let mut names: Vec<String> = self
            .columns
            .iter()
            .map(|column| &column.name)
            .chain(&self.overflow)
            .map(|name| name.to_lowercase())
            .collect();
        if names.iter().any(|name| name.is_empty() || name.len() > 255) {
            problems.push("output.column: a name has 1 to 255 bytes".into());
        }
        names.sort_unstable();
        // Athena and others fold case.
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            problems.push(format!("output.column: {:?} stands twice", pair[0]));
        }
        problems
    }

    /// Extension of a file, without compression.
    pub fn extension(&self) -> &'static str {
        match self.kind {
            Kind::Ndjson => "ndjson",
            Kind::Raw => "txt",
            Kind::Csv => "csv",
            Kind::Parquet => "parquet",
        }
    }

    /// What stands at the head of each object: CSV's column names.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        if self.kind == Kind::Csv {
            let names = self.columns.iter().map(|column| &column.name);
            for (at, name) in names.chain(&self.overflow).enumerate() {
                if at > 0 {
                    header.push(b',');
                }
                csv_text(name, &mut header);
            }
            header.push(b'\n');
        }
        header
    }

    /// Writes a row of CSV or Parquet to `line` (emptied first).
    ///
    /// # Errors
    /// A value that does not fit its column, where nothing takes what does not fit.
    pub fn write(&self, row: &Row, line: &mut Vec<u8>) -> Result<(), String> {
        line.clear();
        let mut rest = Row::new();
        for (at, column) in self.columns.iter().enumerate() {
            let value = row.get(&column.name).filter(|value| !value.is_null());
            let cell = match value {
                None => None,
                Some(value) => match column.kind.cell(value) {
                    Some(cell) => Some(cell),
                    None if self.overflow.is_some() => {
                        rest.insert(column.name.clone(), value.clone());
                        None
                    }
                    None => return Err(does_not_fit(column, value)),
                },
            };
            self.cell(at, cell.as_ref(), line);
        }
        if self.overflow.is_some() {
            let declared = |name: &str| self.columns.iter().any(|column| column.name == name);
            for (name, value) in row.iter().filter(|(name, _)| !declared(name)) {
                rest.insert(name.clone(), value.clone());
            }
            let cell = (!rest.is_empty()).then(|| Cell::Text(Value::from(rest).to_string()));
            self.cell(self.columns.len(), cell.as_ref(), line);
        }
        Ok(())
    }

    fn cell(&self, at: usize, cell: Option<&Cell>, line: &mut Vec<u8>) {
        if self.kind == Kind::Parquet {
            return pack(cell, line);
        }
        if at > 0 {
            line.push(b',');
        }
        match cell {
            None => {}
            Some(Cell::Text(text)) => csv_text(text, line),
            Some(Cell::Int(n)) => line.extend_from_slice(n.to_string().as_bytes()),
            Some(Cell::Float(n)) => line.extend_from_slice(Value::from(*n).to_string().as_bytes()),
            Some(Cell::Bool(b)) => line.extend_from_slice(b.to_string().as_bytes()),
            Some(Cell::Millis(ms)) => {
                let at = jiff::Timestamp::from_millisecond(*ms).unwrap_or(jiff::Timestamp::MAX);
                line.extend_from_slice(format!("{at:.3}").as_bytes());
            }
        }
    }
}

fn does_not_fit(column: &Column, value: &Value) -> String {
    let mut shown = value.to_string();
    if shown.len() > 100 {
        let cut = (0..=100).rev().find(|at| shown.is_char_boundary(*at));
        shown.truncate(cut.unwrap_or(0));
        shown.push('…');
    }
    format!(
        "column {} is of type {:?}, and the value is {shown}; output.overflow would take it",
        column.name, column.kind
    )
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// String and JSON columns.
    Text(String),
    /// Whole numbers.
    Int(i64),
    /// Floating point.
    Float(f64),
    /// Truth.
    Bool(bool),
    /// Unix milliseconds.
    Millis(i64),
}

impl ColumnType {
    /// The value as this type; none where it cannot hold it.
    pub fn cell(self, value: &Value) -> Option<Cell> {
        match (self, value) {
            (Self::String, Value::String(text)) => Some(Cell::Text(text.clone())),
            (Self::String | Self::Json, value) => Some(Cell::Text(value.to_string())),
            (Self::Int, Value::Number(n)) => n.as_i64().map(Cell::Int),
            (Self::Int, Value::String(text)) => text.parse().ok().map(Cell::Int),
            (Self::Float, Value::Number(n)) => n.as_f64().map(Cell::Float),
            (Self::Float, Value::String(text)) => text
                .parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .map(Cell::Float),
            (Self::Bool, Value::Bool(b)) => Some(Cell::Bool(*b)),
            (Self::Bool, Value::String(text)) => text.parse().ok().map(Cell::Bool),
            (Self::Timestamp, Value::String(text)) => text
                .parse()
                .ok()
                .map(|at: jiff::Timestamp| Cell::Millis(at.as_millisecond())),
            _ => None,
        }
    }
}

/// Appends a text as RFC 4180 wants it. An empty text is quoted: nothing at all is null.
fn csv_text(text: &str, line: &mut Vec<u8>) {
    let plain = !text.is_empty()
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text
            .bytes()
            .any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r'));
    if plain {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    line.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            line.push(b'"');
        }
        line.push(byte);
    }
    line.push(b'"');
}

/// Appends a cell of a packed row: a tag, then its bytes. Only this program reads it, from memory.
fn pack(cell: Option<&Cell>, line: &mut Vec<u8>) {
    match cell {
        None => line.push(0),
        Some(Cell::Text(text)) => {
            line.push(1);
            line.extend_from_slice(&(text.len() as u64).to_le_bytes());
            line.extend_from_slice(text.as_bytes());
        }
        Some(Cell::Int(n) | Cell::Millis(n)) => {
            line.push(2);
            line.extend_from_slice(&n.to_le_bytes());
        }
        Some(Cell::Float(n)) => {
            line.push(3);
            line.extend_from_slice(&n.to_le_bytes());
        }
        Some(Cell::Bool(b)) => line.extend_from_slice(&[4, u8::from(*b)]),
    }
}

/// A cell of a packed row, read back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packed<'a> {
    /// Null.
    Null,
    /// Text.
    Text(&'a [u8]),
    /// A whole number, or Unix milliseconds.
    Int(i64),
    /// Floating point.
    Float(f64),
    /// Truth.
    Bool(bool),
}

/// Takes the first cell off packed rows. `None` where they end, or are not what [`Format::write`]
/// wrote.
pub fn unpack<'a>(rows: &mut &'a [u8]) -> Option<Packed<'a>> {
    let (tag, rest) = rows.split_first()?;
    let (cell, rest) = match tag {
        0 => (Packed::Null, rest),
        1 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            let (text, rest) = rest.split_at_checked(len)?;
            (Packed::Text(text), rest)
        }
        2 => {
            let (n, rest) = rest.split_first_chunk()?;
            (Packed::Int(i64::from_le_bytes(*n)), rest)
        }
        3 => {
            let (n, rest) = rest.split_first_chunk()?;
            (Packed::Float(f64::from_le_bytes(*n)), rest)
        }
        4 => {
            let (b, rest) = rest.split_first()?;
            (Packed::Bool(*b != 0), rest)
        }
        _ => return None,
    };
    *rows = rest;
    Some(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn format(kind: Kind, overflow: Option<&str>) -> Format {
        let column = |(name, kind): (&str, ColumnType)| Column {
            name: name.into(),
            kind,
        };
        let columns = [
            ("s", ColumnType::String),
            ("i", ColumnType::Int),
            ("f", ColumnType::Float),
            ("b", ColumnType::Bool),
            ("t", ColumnType::Timestamp),
            ("j", ColumnType::Json),
        ];
        Format {
            kind,
            columns: columns.into_iter().map(column).collect(),
            overflow: overflow.map(str::to_owned),
            raw_field: None,
        }
    }

    fn csv(row: &str, overflow: Option<&str>) -> Result<String, String> {
        let mut line = b"old".to_vec();
        let row: Row = serde_json::from_str(row).unwrap();
        format(Kind::Csv, overflow).write(&row, &mut line)?;
        Ok(String::from_utf8(line).unwrap())
    }

    #[test]
    fn each_type_and_what_does_not_fit() {
        for (row, expected) in [
            (
                r#"{"s":"a,\"b\"","i":-7,"f":1.5,"b":true,"t":"2024-02-29T23:00:00.5+02:00","j":{"x":[1]}}"#,
                "\"a,\"\"b\"\"\",-7,1.5,true,2024-02-29T21:00:00.500Z,\"{\"\"x\"\":[1]}\",",
            ),
            (r#"{"s":"","i":null}"#, "\"\",,,,,,"),
            (r#"{"i":"12","f":"2","b":"false"}"#, ",12,2.0,false,,,"),
            (
                r#"{"i":1.5,"t":"soon","new":{"a":1}}"#,
                ",,,,,,\"{\"\"i\"\":1.5,\"\"t\"\":\"\"soon\"\",\"\"new\"\":{\"\"a\"\":1}}\"",
            ),
            (
                r#"{"i":9223372036854775808}"#,
                ",,,,,,\"{\"\"i\"\":9223372036854775808}\"",
            ),
        ] {
            assert_eq!(csv(row, Some("rest")).as_deref(), Ok(expected), "{row}");
        }
        assert!(csv(r#"{"i":"x"}"#, None).unwrap_err().contains("column i"));
        assert_eq!(csv(r#"{"new":1}"#, None).as_deref(), Ok(",,,,,"));
        let header = format(Kind::Csv, Some("rest")).header();
        assert_eq!(header, b"s,i,f,b,t,j,rest\n");
    }

    /// No number of JSON, and no time that there is: they go where what does not fit goes.
    #[test]
    fn numbers_and_times_at_their_ends() {
        for text in ["NaN", "inf", "-Infinity", "1e400"] {
            let row = format!(r#"{{"f":"{text}"}}"#);
            let rest = format!(r#",,,,,,"{{""f"":""{text}""}}""#);
            assert_eq!(csv(&row, Some("rest")), Ok(rest), "{text}");
            assert!(csv(&row, None).is_err(), "{text}");
        }
        for (time, millis, said) in [
            (
                "0001-01-01T00:00:00Z",
                -62_135_596_800_000,
                "0001-01-01T00:00:00.000Z",
            ),
            (
                "9999-12-30T21:59:59.999Z",
                253_402_207_199_999,
                "9999-12-30T21:59:59.999Z",
            ),
            (
                "0000-03-01T00:00:00Z",
                -62_162_035_200_000,
                "0000-03-01T00:00:00.000Z",
            ),
            (
                "-000001-01-01T00:00:00Z",
                -62_198_755_200_000,
                "-000001-01-01T00:00:00.000Z",
            ),
        ] {
            let value = Value::from(time);
            assert_eq!(
                ColumnType::Timestamp.cell(&value),
                Some(Cell::Millis(millis)),
                "{time}"
            );
            let row = format!(r#"{{"t":"{time}"}}"#);
            assert_eq!(csv(&row, Some("rest")), Ok(format!(",,,,{said},,")));
        }
        for none in [
            "9999-12-31T23:59:59Z",
            "+010000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "0001-02-30T00:00:00Z",
        ] {
            let row = format!(r#"{{"t":"{none}"}}"#);
            let rest = format!(r#",,,,,,"{{""t"":""{none}""}}""#);
            assert_eq!(csv(&row, Some("rest")), Ok(rest), "{none}");
        }
    }

    #[test]
    fn packed_rows_read_back() {
        let format = format(Kind::Parquet, Some("rest"));
        let row = r#"{"s":"é","i":-7,"f":1.5,"b":true,"t":"1969-12-31T23:59:59.999Z","x":1}"#;
        let mut line = Vec::new();
        let row = serde_json::from_str(row).unwrap();
        format.write(&row, &mut line).unwrap();
        let mut rest = line.as_slice();
        let cells: Vec<_> = std::iter::from_fn(|| unpack(&mut rest)).collect();
        assert_eq!(
            cells,
            [
                Packed::Text("é".as_bytes()),
                Packed::Int(-7),
                Packed::Float(1.5),
                Packed::Bool(true),
                Packed::Int(-1),
                Packed::Null,
                Packed::Text(b"{\"x\":1}"),
            ]
        );
        for cut in 0..line.len() {
            let mut rest = &line[..cut];
            while unpack(&mut rest).is_some() {}
        }
    }

    #[test]
    fn problems() {
        let mut bad = format(Kind::Csv, Some("S"));
        assert_eq!(bad.problems().len(), 1);
        bad.columns.clear();
        bad.overflow = Some(String::new());
        assert_eq!(bad.problems().len(), 2);
    }
}
