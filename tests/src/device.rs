//! Records as an agent writes them, without an agent: for tests of the loader alone, and for what an
//! agent does only by accident (re-sends, losses).

use headwater_record::headers::{KIND, SPAN, STREAM, SpanHeader};
use headwater_record::value::{Piece, ValueWriter};
use headwater_record::{Generation, Kind, Notice, Span, StreamId};

use crate::kafka::Record;

/// One stream of one device, at an offset.
#[derive(Debug)]
pub struct Device {
    stream: StreamId,
    values: ValueWriter,
    generation: Generation,
    offset: u64,
}

impl Device {
    /// The stream of `path` under source `app` of device `id`.
    pub fn new(id: &str, path: &str, generation: u64) -> Self {
        let (device, source) = (
            id.parse()
                .expect("a test names a device as it may be named"),
            "app".parse().expect("app is a source id"),
        );
        Self {
            stream: StreamId::new(&device, &source, path.as_bytes()).expect("a path"),
            values: ValueWriter::new(&device, &source),
            generation: Generation(generation),
            offset: 0,
        }
    }

    /// The offset of the next line.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes back (a re-send) or ahead (a loss).
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The record of the next line.
    pub fn line(&mut self, line: &str) -> Record {
        let length = line.len() as u64 + 1;
        let mut value = Vec::new();
        // 2026-11-24T00:00:00Z and on, a second apart, so that paths by the hour differ.
        let time = 1_795_478_400_000 + 1000 * (self.offset / 100);
        self.values
            .line(&mut value, time, line.as_bytes(), Piece::default());
        self.record(length, Kind::Data, value)
    }

    /// A record of the next offset with this value: a sensor's reading.
    pub fn reading(&mut self, value: impl Into<Vec<u8>>) -> Record {
        self.record(1, Kind::Data, value.into())
    }

    /// A notice over the next `length` offsets.
    pub fn notice(&mut self, length: u64, kind: Kind, notice: &Notice) -> Record {
        let mut value = Vec::new();
        self.values.notice(&mut value, 1_795_478_400_000, notice);
        self.record(length, kind, value)
    }

    fn record(&mut self, length: u64, kind: Kind, value: Vec<u8>) -> Record {
        let span = Span::new(self.offset, self.offset + length).expect("it ends behind its start");
        self.offset = span.end();
        let span = SpanHeader::new(self.generation, span).as_bytes().to_vec();
        let mut headers = vec![
            (STREAM.to_owned(), self.stream.as_str().as_bytes().to_vec()),
            (SPAN.to_owned(), span),
        ];
        if let Some(kind) = kind.header() {
            headers.push((KIND.to_owned(), kind.as_bytes().to_vec()));
        }
        Record {
            partition: -1,
            key: Some(self.stream.device().as_bytes().to_vec()),
            headers,
            value,
            ..Record::default()
        }
    }
}
