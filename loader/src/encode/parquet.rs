//! Packed rows into a Parquet file.
//!
//! While a batch is open its rows lie packed and compressed, like lines; the file is made when the
//! batch closes, row group by row group, so that five hundred open objects need no five hundred
//! writers. Every column is optional and flat; statistics are written for each, so that Athena skips
//! row groups; texts are dictionary-encoded while that pays.

use std::sync::Arc;

use parquet::basic::TimeUnit;
use parquet::basic::{
    Compression as Codec, ConvertedType, LogicalType, Repetition, Type, ZstdLevel,
};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type as SchemaType, TypePtr};

use crate::encode::{Compression, EncodeError};
use crate::format::{ColumnType, Format, Packed, unpack};

/// Packed bytes of one row group. Athena's advice is large ones, memory's is small ones: at this size
/// a row group of log lines holds about a hundred thousand rows.
const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Most cells of one row group. While it is written each takes 24 bytes, and a null packs into one: a
/// table of many columns, most of them empty, would otherwise take hundreds of MiB.
const ROW_GROUP_CELLS: usize = 1024 * 1024;

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
        pieces: impl Iterator<Item = Result<Vec<u8>, EncodeError>>,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut file = SerializedFileWriter::new(
            Vec::new(),
            Arc::clone(&self.schema),
            Arc::clone(&self.properties),
        )
        .map_err(wrong)?;
        let mut group = Vec::new();
        for piece in pieces {
            group.extend_from_slice(&piece?);
            if group.len() >= ROW_GROUP_BYTES {
                self.group(&mut file, &group)?;
                group.clear();
            }
        }
        if !group.is_empty() {
            self.group(&mut file, &group)?;
        }
        file.into_inner().map_err(wrong)
    }

    fn group(
        &self,
        file: &mut SerializedFileWriter<Vec<u8>>,
        rows: &[u8],
    ) -> Result<(), EncodeError> {
        let mut rest = rows;
        let rows_max = (ROW_GROUP_CELLS / self.columns.max(1)).max(1);
        while !rest.is_empty() {
            let mut cells: Vec<Vec<Packed<'_>>> = vec![Vec::new(); self.columns];
            for _ in 0..rows_max {
                if rest.is_empty() {
                    break;
                }
                for column in &mut cells {
                    let cell = unpack(&mut rest).ok_or_else(|| {
                        EncodeError::from(std::io::Error::other("a packed row ends in the middle"))
                    })?;
                    column.push(cell);
                }
            }
            Self::write_group(file, &cells)?;
        }
        Ok(())
    }

    fn write_group(
        file: &mut SerializedFileWriter<Vec<u8>>,
        cells: &[Vec<Packed<'_>>],
    ) -> Result<(), EncodeError> {
        let mut group = file.next_row_group().map_err(wrong)?;
        for column in cells {
            let mut writer = group
                .next_column()
                .map_err(wrong)?
                .ok_or_else(|| wrong(ParquetError::General("a column too many".into())))?;
            write_column(writer.untyped(), column).map_err(wrong)?;
            writer.close().map_err(wrong)?;
        }
        group.close().map_err(wrong)?;
        Ok(())
    }
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

fn write_column(writer: &mut ColumnWriter<'_>, cells: &[Packed<'_>]) -> Result<(), ParquetError> {
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
                    Packed::Text(text) => Some(text.to_vec().into()),
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

    use super::*;
    use crate::format::{Column, Kind};

    #[test]
    fn row_groups_are_bounded_in_cells_whatever_they_pack_into() {
        let column = |name: &str| Column {
            name: name.into(),
            kind: ColumnType::Int,
        };
        let format = Format {
            kind: Kind::Parquet,
            columns: vec![column("a"), column("b"), column("c")],
            ..Format::default()
        };
        let table = Table::new(&format, Compression::None).unwrap();
        // Nulls, a byte each.
        let rows = 400_000;
        let packed = vec![0_u8; 3 * rows];
        let file = table.file([Ok(packed)].into_iter()).unwrap();
        let file = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        let groups = file.metadata().row_groups();
        assert_eq!(groups.len(), 2);
        let counts: Vec<i64> = groups.iter().map(|group| group.num_rows()).collect();
        assert_eq!(counts.iter().sum::<i64>(), 400_000);
        assert!(counts[0] * 3 <= 1024 * 1024);
    }
}
