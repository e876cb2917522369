//! Packed rows into a Parquet file.
//!
//! While a batch is open its rows lie packed and compressed, like lines; the file is made when the
//! batch closes, row group by row group, so that five hundred open objects need no five hundred
//! writers. Every column is optional and flat; statistics are written for each and for its pages, so that
//! Athena skips row groups; texts are dictionary-encoded while that pays.
//!
//! A row group is as large as the memory plan allows ([`crate::memory`]), and so are made as many files at once
//! ([`Making`]). It takes its packed bytes, four for each cell, and the pages of one column.

use std::sync::Arc;

use bytes::Bytes;

use parquet::basic::TimeUnit;
use parquet::basic::{
    Compression as Codec, ConvertedType, LogicalType, Repetition, Type, ZstdLevel,
};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type as SchemaType, TypePtr};

use crate::encode::{Compression, EncodeError, Making};
use crate::format::{ColumnType, Format, Packed, unpack};

/// Packed bytes of a cell, at the least, on average: while a row group is written each cell takes four bytes of its own,
/// and a null packs into one, so a table of many columns, most of them empty, has smaller row groups.
const CELL_BYTES: usize = 8;
/// Cells that are handed to a column's writer at once.
const SOME_CELLS: usize = 4096;

/// What every Parquet object of a pipeline shares.
#[derive(Debug, Clone)]
pub struct Table {
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    columns: usize,
}

fn wrong(error: ParquetError) -> EncodeError {
    EncodeError::from(std::io::Error::other(error))
}

impl Table {
    /// The schema of a format.
    ///
    /// # Errors
    /// Names that Parquet does not take.
    pub fn new(format: &Format, compression: Compression) -> Result<Self, EncodeError> {
        let declared = format.columns.iter().map(|c| (c.name.as_str(), c.kind));
        let overflow = format
            .overflow
            .iter()
            .map(|name| (name.as_str(), ColumnType::Json));
        let fields: Vec<TypePtr> = declared
            .chain(overflow)
            .map(|(name, kind)| field(name, kind).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        let columns = fields.len();
        let schema = SchemaType::group_type_builder("row")
            .with_fields(fields)
            .build()
            .map_err(wrong)?;
        let codec = match compression {
            Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(3).map_err(wrong)?),
            Compression::Gzip | Compression::None => Codec::UNCOMPRESSED,
        };
        let properties = WriterProperties::builder()
            .set_created_by("headwater".to_owned())
            .set_compression(codec)
            // Of row groups and of pages.
            .set_statistics_enabled(EnabledStatistics::Page)
            .build();
        Ok(Self {
            schema: Arc::new(schema),
            properties: Arc::new(properties),
            columns,
        })
    }

    /// A file of packed rows, which come in pieces that each hold whole rows.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn file(
        &self,
        making: &Making,
        pieces: impl Iterator<Item = Result<Vec<u8>, EncodeError>>,
    ) -> Result<Vec<u8>, EncodeError> {
        let _place = making.place();
        self.file_of(making.row_group(), pieces)
    }

    fn file_of(
        &self,
        row_group: usize,
        pieces: impl Iterator<Item = Result<Vec<u8>, EncodeError>>,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut file = SerializedFileWriter::new(
            Vec::new(),
            Arc::clone(&self.schema),
            Arc::clone(&self.properties),
        )
        .map_err(wrong)?;
        let mut group: Vec<u8> = Vec::new();
        for piece in pieces {
            let piece = piece?;
            if !group.is_empty() && group.len() + piece.len() > row_group {
                group = self.groups(&mut file, group, row_group)?;
            }
            group.extend_from_slice(&piece);
        }
        self.groups(&mut file, group, row_group)?;
        file.into_inner().map_err(wrong)
    }

    /// Writes packed rows: one row group, or several where they have more cells than one may. Returns the memory that
    /// they took, to be filled again.
    fn groups(
        &self,
        file: &mut SerializedFileWriter<Vec<u8>>,
        rows: Vec<u8>,
        row_group: usize,
    ) -> Result<Vec<u8>, EncodeError> {
        let rows = Bytes::from(rows);
        let rows_max = (row_group / CELL_BYTES / self.columns.max(1)).max(1);
        // Where in the rows each cell begins, row after row.
        let mut starts: Vec<u32> = Vec::new();
        let mut rest = &rows[..];
        while !rest.is_empty() {
            starts.clear();
            while !rest.is_empty() && starts.len() < rows_max * self.columns {
                for _ in 0..self.columns {
                    starts.push(u32::try_from(rows.len() - rest.len()).map_err(|_| too_large())?);
                    unpack(&mut rest).ok_or_else(cut)?;
                }
            }
            self.write_group(file, &rows, &starts)?;
        }
        // Nobody else holds it by now.
        let mut memory = rows.try_into_mut().map(Vec::from).unwrap_or_default();
        memory.clear();
        Ok(memory)
    }

    fn write_group(
        &self,
        file: &mut SerializedFileWriter<Vec<u8>>,
        rows: &Bytes,
        starts: &[u32],
    ) -> Result<(), EncodeError> {
        let mut group = file.next_row_group().map_err(wrong)?;
        let mut cells = Vec::with_capacity(SOME_CELLS);
        for column in 0..self.columns {
            let mut writer = group
                .next_column()
                .map_err(wrong)?
                .ok_or_else(|| wrong(ParquetError::General("a column too many".into())))?;
            let mut of_column = starts.iter().skip(column).step_by(self.columns).peekable();
            while of_column.peek().is_some() {
                cells.clear();
                for start in of_column.by_ref().take(SOME_CELLS) {
                    let mut cell = rows.get(*start as usize..).ok_or_else(cut)?;
                    cells.push(unpack(&mut cell).ok_or_else(cut)?);
                }
                write_cells(writer.untyped(), rows, &cells).map_err(wrong)?;
            }
            writer.close().map_err(wrong)?;
        }
        group.close().map_err(wrong)?;
        Ok(())
    }
}

fn cut() -> EncodeError {
    EncodeError::from(std::io::Error::other("a packed row ends in the middle"))
}

fn too_large() -> EncodeError {
    EncodeError::from(std::io::Error::other("a row group of more than 4 GiB"))
}

fn field(name: &str, kind: ColumnType) -> Result<SchemaType, ParquetError> {
    let (physical, logical) = match kind {
        ColumnType::String => (Type::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Json => (Type::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Int => (Type::INT64, None),
        ColumnType::Float => (Type::DOUBLE, None),
        ColumnType::Bool => (Type::BOOLEAN, None),
        ColumnType::Timestamp => (
            Type::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
        ),
    };
    SchemaType::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_converted_type(ConvertedType::NONE)
        .with_logical_type(logical)
        .build()
}

/// Writes cells of a column. Texts are no copies: they lie in `rows`.
fn write_cells(
    writer: &mut ColumnWriter<'_>,
    rows: &Bytes,
    cells: &[Packed<'_>],
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = cells
        .iter()
        .map(|cell| i16::from(*cell != Packed::Null))
        .collect();
    let levels = Some(levels.as_slice());
    match writer {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let values: Vec<ByteArray> = cells
                .iter()
                .filter_map(|cell| match cell {
                    Packed::Text(text) => Some(rows.slice_ref(text).into()),
                    _ => None,
                })
                .collect();
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let values: Vec<i64> = cells
                .iter()
                .filter_map(|cell| match cell {
                    Packed::Int(n) => Some(*n),
                    _ => None,
                })
                .collect();
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let values: Vec<f64> = cells
                .iter()
                .filter_map(|cell| match cell {
                    Packed::Float(n) => Some(*n),
                    _ => None,
                })
                .collect();
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let values: Vec<bool> = cells
                .iter()
                .filter_map(|cell| match cell {
                    Packed::Bool(b) => Some(*b),
                    _ => None,
                })
                .collect();
            writer.write_batch(&values, levels, None)?;
        }
        _ => return Err(ParquetError::General("a type that no column has".into())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::statistics::Statistics;

    use super::*;
    use crate::format::{Column, Kind};

    fn table(columns: &[(&str, ColumnType)], compression: Compression) -> Table {
        let column = |(name, kind): &(&str, ColumnType)| Column {
            name: (*name).into(),
            kind: *kind,
        };
        let format = Format {
            kind: Kind::Parquet,
            columns: columns.iter().map(column).collect(),
            ..Format::default()
        };
        Table::new(&format, compression).unwrap()
    }

    fn read(file: Vec<u8>) -> SerializedFileReader<Bytes> {
        SerializedFileReader::new(Bytes::from(file)).unwrap()
    }

    #[test]
    fn row_groups_are_bounded_in_cells_whatever_they_pack_into() {
        let ints = ["a", "b", "c"].map(|name| (name, ColumnType::Int));
        let table = table(&ints, Compression::None);
        // Nulls, a byte each.
        let rows = 400_000;
        let packed = vec![0_u8; 3 * rows];
        let file = read(table.file_of(8 << 20, [Ok(packed)].into_iter()).unwrap());
        let groups = file.metadata().row_groups();
        assert_eq!(groups.len(), 2);
        let counts: Vec<i64> = groups.iter().map(|group| group.num_rows()).collect();
        assert_eq!(counts.iter().sum::<i64>(), 400_000);
        assert!(counts[0] * 3 <= 1024 * 1024);
    }

    /// They are filled as far as pieces go, never above what was asked for, and say what they hold.
    #[test]
    fn row_groups_are_of_the_size_that_is_asked_for() {
        let columns = [("n", ColumnType::Int), ("s", ColumnType::String)];
        let table = table(&columns, Compression::Zstd);
        let format = Format {
            kind: Kind::Parquet,
            columns: columns
                .map(|(name, kind)| Column {
                    name: name.into(),
                    kind,
                })
                .into(),
            ..Format::default()
        };
        let mut line = Vec::new();
        let mut pieces = Vec::new();
        for piece in 0..40 {
            let mut packed = Vec::new();
            for n in 0..100 {
                let n = piece * 100 + n;
                let row = serde_json::json!({ "n": n, "s": format!("{n:05} {}", "x".repeat(200)) });
                let row = serde_json::from_value(row).unwrap();
                format.write(&row, &mut line).unwrap();
                packed.extend_from_slice(&line);
            }
            pieces.push(packed);
        }
        let (piece, total) = (pieces[0].len(), pieces.iter().map(Vec::len).sum::<usize>());
        for row_group in [piece, 3 * piece, 8 * piece + 1, total] {
            let file = table
                .file_of(row_group, pieces.iter().cloned().map(Ok))
                .unwrap();
            let file = read(file);
            let groups = file.metadata().row_groups();
            let pieces = (row_group / piece).max(1);
            assert_eq!(groups.len(), 40_usize.div_ceil(pieces), "{row_group}");
            let pieces = i64::try_from(pieces).unwrap();
            let mut next = 0_i64;
            for group in groups {
                assert_eq!(group.num_rows(), 100 * pieces.min(40 - next / 100));
                let Some(Statistics::Int64(numbers)) = group.column(0).statistics() else {
                    panic!("no statistics")
                };
                assert_eq!(numbers.min_opt(), Some(&next));
                next += group.num_rows();
                assert_eq!(numbers.max_opt(), Some(&(next - 1)));
                assert!(
                    group.column(1).column_index_offset().is_some(),
                    "nor of pages"
                );
            }
            assert_eq!(next, 4000);
        }
    }
}
