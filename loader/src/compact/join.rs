//! Objects of one kind into one, in bounded memory: what is made, and the one that is read.
//!
//! | kind | how |
//! |---|---|
//! | lines | frames of zstd and members of gzip stand behind one another as they are |
//! | CSV | read, and compressed anew, since only the first keeps its header |
//! | Parquet | row groups are copied as they are, with their statistics |
//!
//! Each object is read to its end before anything is removed: one that is damaged stays.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;

use crate::encode::{Compression, Compressor, Content, Encoder, Target, frame_bytes};
use crate::store::plain_content;

/// An object that is being put together.
pub struct Joining {
    kind: Kind,
    compression: Compression,
}

enum Kind {
    Lines { bytes: Vec<u8>, content: Content },
    Csv(Option<Csv>),
    Parquet(Option<Parquet>),
}

struct Csv {
    target: Target,
    encoder: Encoder,
    compressor: Compressor,
}

struct Parquet {
    schema: TypePtr,
    file: SerializedFileWriter<Vec<u8>>,
    rows: u64,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joining").finish_non_exhaustive()
    }
}

impl Joining {
    /// Nothing yet, of a kind that an extension (without its dot) names.
    pub fn new(extension: &str) -> Self {
        let (kind, compression) = match extension.rsplit_once('.') {
            Some((kind, "zst")) => (kind, Compression::Zstd),
            Some((kind, "gz")) => (kind, Compression::Gzip),
            _ => (extension, Compression::None),
        };
        let kind = match kind {
            "csv" => Kind::Csv(None),
            "parquet" => Kind::Parquet(None),
            _ => Kind::Lines {
                bytes: Vec::new(),
                content: Content::default(),
            },
        };
        Self { kind, compression }
    }

    /// Puts an object behind the others. `false`: it has other columns, and was not taken.
    ///
    /// # Errors
    /// It is damaged.
    pub fn push(&mut self, object: &Bytes) -> anyhow::Result<bool> {
        let plain = plain(self.compression, object)?;
        match &mut self.kind {
            Kind::Lines { bytes, content } => {
                add(content, plain)?;
                bytes.extend_from_slice(object);
                Ok(true)
            }
            Kind::Csv(csv) => push_csv(csv, self.compression, plain),
            Kind::Parquet(parquet) => push_parquet(parquet, object),
        }
    }

    /// The object, and what it holds.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub fn finish(self) -> anyhow::Result<(Bytes, Content)> {
        Ok(match self.kind {
            Kind::Lines { bytes, content } => (bytes.into(), content),
            Kind::Csv(None) | Kind::Parquet(None) => <_>::default(),
            Kind::Csv(Some(csv)) => {
                let (bytes, content) = csv.encoder.finish(&csv.target, &csv.compressor)?;
                (bytes.into(), content)
            }
            Kind::Parquet(Some(parquet)) => {
                let bytes: Bytes = parquet.file.into_inner()?.into();
                let content = Content {
                    rows: parquet.rows,
                    ..plain_content(&bytes)
                };
                (bytes, content)
            }
        })
    }
}

fn plain<'a>(compression: Compression, object: &'a [u8]) -> anyhow::Result<Box<dyn BufRead + 'a>> {
    Ok(match compression {
        Compression::Zstd => Box::new(BufReader::new(zstd::Decoder::new(object)?)),
        Compression::Gzip => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(object))),
        Compression::None => Box::new(object),
    })
}

/// Adds lines to what an object holds.
fn add(content: &mut Content, mut plain: impl Read) -> anyhow::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    let mut last = b'\n';
    loop {
        let n = plain.read(&mut piece)?;
        let Some(read) = piece.get(..n).filter(|read| !read.is_empty()) else {
            break;
        };
        content.rows += memchr::memchr_iter(b'\n', read).count() as u64;
        content.bytes += n as u64;
        content.crc = crc32c::crc32c_append(content.crc, read);
        last = read.last().copied().unwrap_or(last);
    }
    ensure!(last == b'\n', "it ends in the middle of a line");
    Ok(())
}

fn push_csv(
    csv: &mut Option<Csv>,
    compression: Compression,
    mut plain: impl BufRead,
) -> anyhow::Result<bool> {
    let mut line = Vec::new();
    plain.read_until(b'\n', &mut line)?;
    ensure!(
        line.ends_with(b"\n") && !line.contains(&b'"'),
        "its header is none that is known"
    );
    let csv = match csv {
        Some(csv) if csv.target.header != line => return Ok(false),
        Some(csv) => csv,
        None => csv.insert(Csv {
            target: Target::lines(compression, line.clone(), "csv"),
            encoder: Encoder::default(),
            compressor: Compressor::default(),
        }),
    };
    loop {
        line.clear();
        if plain.read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        ensure!(line.pop() == Some(b'\n'), "it ends in the middle of a line");
        // A value that holds a newline is two lines here, and the same bytes.
        let Csv {
            target,
            encoder,
            compressor,
        } = &mut *csv;
        encoder.push(&line, target, frame_bytes(1), compressor)?;
    }
}

fn push_parquet(parquet: &mut Option<Parquet>, object: &Bytes) -> anyhow::Result<bool> {
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(object)?;
    let schema = metadata.file_metadata().schema_descr().root_schema_ptr();
    let parquet = match parquet {
        Some(parquet) if parquet.schema != schema => return Ok(false),
        Some(parquet) => parquet,
        None => {
            let properties = WriterProperties::builder().set_created_by("headwater".to_owned());
            let properties = Arc::new(properties.build());
            let file = SerializedFileWriter::new(Vec::new(), Arc::clone(&schema), properties)?;
            parquet.insert(Parquet {
                schema,
                file,
                rows: 0,
            })
        }
    };
    let index = metadata.page_index();
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let mut out = parquet.file.next_row_group()?;
        for (column_at, column) in group.columns().iter().enumerate() {
            let rows = u64::try_from(group.num_rows())?;
            let close = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size())?,
                rows_written: rows,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: index.and_then(|i| i.column_index(at, column_at)).cloned(),
                offset_index: index.and_then(|i| i.offset_index(at, column_at)).cloned(),
            };
            out.append_column(object, close)?;
        }
        out.close()?;
        parquet.rows += u64::try_from(group.num_rows())?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;

    use crate::config::{ConfigFile, Plan};
    use crate::fetched::Entry;
    use crate::pipeline::{Made, Record, Scratch};

    /// An object with a row for each number.
    fn object(more: &str, numbers: &[i64]) -> (Bytes, Content) {
        let text = format!(
            "[kafka]\nbrokers=['localhost:1']\ntopic='t'\n[group]\nid='g'\n[output]\nurl='s3://b'\npath='p'\n{more}"
        );
        let file: ConfigFile = headwater_msk::config_file::parse(&text).unwrap();
        let plan = Plan::new(&file, <_>::default(), None).unwrap();
        let (target, mut scratch) = (plan.pipeline.target(), Scratch::default());
        let (mut encoder, compressor) = (Encoder::default(), Compressor::default());
        for number in numbers {
            let value = format!("{{\"n\":{number},\"message\":\"a \\\"b\\\",\\nline {number}\"}}");
            let entry = Entry::foreign(0, 0);
            let record = Record {
                topic: "t",
                partition: 0,
                entry: &entry,
                value: Some(value.as_bytes()),
            };
            let made = plan
                .pipeline
                .make(record, 0, &mut <_>::default(), &mut scratch);
            let Made::Row { line, .. } = made else {
                panic!("a row")
            };
            encoder.push(line, target, 64, &compressor).unwrap();
        }
        let (bytes, content) = encoder.finish(target, &compressor).unwrap();
        (bytes.into(), content)
    }

    fn joined(extension: &str, objects: &[Bytes]) -> (Bytes, Content) {
        let mut joining = Joining::new(extension);
        for object in objects {
            assert!(joining.push(object).unwrap());
        }
        joining.finish().unwrap()
    }

    fn text(compression: Compression, object: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        plain(compression, object)
            .unwrap()
            .read_to_end(&mut text)
            .unwrap();
        text
    }

    const COLUMNS: &str = "[[output.column]]\nname='n'\ntype='int'\n[[output.column]]\nname='message'\ntype='string'\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// What many objects hold is what one of all rows holds.
        #[test]
        fn parts_joined_are_the_whole(
            parts in prop::collection::vec(prop::collection::vec(any::<i64>(), 1..30), 1..6),
            codec in 0_usize..3, csv: bool,
        ) {
            let (name, suffix, compression) = [
                ("zstd", ".zst", Compression::Zstd),
                ("gzip", ".gz", Compression::Gzip),
                ("none", "", Compression::None),
            ][codec];
            let (kind, more) = match csv {
                true => ("csv", format!("format='csv'\ncompression='{name}'\n{COLUMNS}")),
                false => ("ndjson", format!("compression='{name}'\n")),
            };
            let objects: Vec<Bytes> = parts.iter().map(|part| object(&more, part).0).collect();
            let (bytes, content) = joined(&format!("{kind}{suffix}"), &objects);
            let (whole, of_whole) = object(&more, &parts.concat());
            prop_assert_eq!(text(compression, &bytes), text(compression, &whole));
            prop_assert_eq!((content.bytes, content.crc), (of_whole.bytes, of_whole.crc));
        }
    }

    #[test]
    fn row_groups_of_parquet_are_copied_with_their_statistics() {
        let more = format!("format='parquet'\n{COLUMNS}");
        let objects = [
            object(&more, &[1, 2, 3]).0,
            object(&more, &[40, 50]).0,
            object(&more, &[6]).0,
        ];
        let (bytes, content) = joined("parquet", &objects);
        assert_eq!(content.rows, 6);
        let reader = SerializedFileReader::new(bytes).unwrap();
        let rows: Vec<i64> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| match row.unwrap().get_column_iter().next() {
                Some((_, parquet::record::Field::Long(n))) => *n,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(rows, [1, 2, 3, 40, 50, 6]);
        let group = reader.metadata().row_group(1);
        let statistics = group.column(0).statistics().unwrap();
        assert_eq!(statistics.min_bytes_opt(), Some(&40_i64.to_le_bytes()[..]));
        let fewer = "format='parquet'\n[[output.column]]\nname='n'\ntype='int'\n";
        let mut joining = Joining::new("parquet");
        assert!(joining.push(&objects[0]).unwrap());
        assert!(!joining.push(&object(fewer, &[1]).0).unwrap());
    }

    #[test]
    fn other_columns_are_not_taken_and_what_is_damaged_is_refused() {
        let more = format!("format='csv'\ncompression='none'\n{COLUMNS}");
        let fewer = "format='csv'\ncompression='none'\n[[output.column]]\nname='n'\ntype='int'\n";
        let mut joining = Joining::new("csv");
        assert!(joining.push(&object(&more, &[1]).0).unwrap());
        assert!(!joining.push(&object(fewer, &[1]).0).unwrap());
        let (good, _) = object("", &[1, 2, 3]);
        let cut = good.slice(..good.len() - 1);
        assert!(Joining::new("ndjson.zst").push(&cut).is_err());
        let (plain, _) = object("compression='none'\n", &[1]);
        let cut = plain.slice(..plain.len() - 1);
        assert!(Joining::new("ndjson").push(&cut).is_err());
    }
}
