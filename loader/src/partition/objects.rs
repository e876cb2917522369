//! The objects of an open batch: one for each path, or one for each record.
//!
//! Their names tile the batch's range of offsets either way. One for each path: all carry the whole
//! range. One for each record (`output.layout = "record"`): an object carries the range from where the
//! last one ended to behind its record, so records without a row are covered by the next one that has
//! one, in a later batch if need be.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::encode::{Compressor, EncodeError, Encoder, frame_bytes};
use crate::name::ObjectName;
use crate::partition::batch::{Counts, Object};
use crate::pipeline::{Made, Pipeline, To};
use crate::route::DEAD_LETTERS;

/// How rows are put into objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One object for each path of a batch.
    #[default]
    Batch,
    /// One object for each record.
    Record,
}

impl Layout {
    /// Whether it is the usual one: a specification does not name that.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The objects that are being written.
#[derive(Debug, Default)]
pub(super) struct Objects {
    list: Vec<OpenObject>,
    /// Places among them, by path, where one path has one object.
    places: HashMap<Arc<str>, usize>,
    /// Place of the last row that had a path.
    last: usize,
    held: usize,
}

#[derive(Debug)]
struct OpenObject {
    path: Arc<str>,
    /// Offset of its first row's record.
    offset: u64,
    encoder: Encoder,
}

impl Objects {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of memory that they hold, about.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Puts what became of a record, or of a window, where it belongs.
    pub(super) fn put(
        &mut self,
        made: &Made<'_>,
        offset: u64,
        pipeline: &Pipeline,
        counts: &mut Counts,
        compressor: &Compressor,
    ) -> Result<(), EncodeError> {
        let (line, to) = match *made {
            Made::Row { line, to } => (line, to),
            Made::Filtered => {
                counts.filtered += 1;
                return Ok(());
            }
            Made::Aggregated => {
                counts.aggregated += 1;
                return Ok(());
            }
        };
        counts.rows += 1;
        let layout = pipeline.spec().layout;
        let target = match to {
            To::DeadLetters(_) => pipeline.dead_letters(),
            To::PathAsBefore | To::Path(_) => pipeline.target(),
        };
        let at = match to {
            To::PathAsBefore if layout == Layout::Record => {
                let path = self.list.get(self.last).map(|last| Arc::clone(&last.path));
                self.last = self.open(path.unwrap_or_default(), offset);
                self.last
            }
            To::PathAsBefore => self.last,
            To::Path(path) => {
                self.last = self.place(path, offset, layout);
                self.last
            }
            To::DeadLetters(_) => {
                counts.dead_letters += 1;
                self.place(DEAD_LETTERS, offset, layout)
            }
        };
        let frame = frame_bytes(self.list.len());
        let Some(OpenObject { encoder, .. }) = self.list.get_mut(at) else {
            return Ok(());
        };
        let before = encoder.held();
        encoder.push(line, target, frame, compressor)?;
        self.held = self.held + encoder.held() - before;
        Ok(())
    }

    fn place(&mut self, path: &str, offset: u64, layout: Layout) -> usize {
        if let Some(at) = self.places.get(path) {
            return *at;
        }
        let path: Arc<str> = path.into();
        self.held += size_of::<OpenObject>() + 2 * path.len();
        let at = self.open(Arc::clone(&path), offset);
        if layout == Layout::Batch {
            self.places.insert(path, at);
        }
        at
    }

    fn open(&mut self, path: Arc<str>, offset: u64) -> usize {
        self.list.push(OpenObject {
            path,
            offset,
            encoder: Encoder::default(),
        });
        self.list.len() - 1
    }

    /// The finished objects, named for ranges that tile `[start, …)`, and where the last one ends; at
    /// `end` where all of them carry the whole range. Where that is empty they are named for the batch clock.
    pub(super) fn finish(
        self,
        (topic, partition): (&str, i32),
        ((start, end), clock_ms): ((u64, u64), u64),
        pipeline: &Pipeline,
        compressor: &Compressor,
    ) -> Result<(Vec<Object>, u64), EncodeError> {
        let mut list = self.list;
        let range_end = |object: &OpenObject| match pipeline.spec().layout {
            Layout::Batch => end,
            Layout::Record => object.offset + 1,
        };
        // Numbered in the order of their paths, not of their coming.
        list.sort_by(|a, b| {
            let by_end = range_end(a).cmp(&range_end(b));
            by_end.then_with(|| a.path.cmp(&b.path))
        });
        let ends: Vec<u64> = list.iter().map(range_end).collect();
        let mut objects = Vec::with_capacity(list.len());
        let (mut start, mut covered) = (start, start);
        let (mut k, mut n) = (0, 0);
        for (at, object) in list.into_iter().enumerate() {
            let end = ends.get(at).copied().unwrap_or(end);
            if k == n {
                (start, covered) = (covered, end);
                k = 0;
                n = ends
                    .iter()
                    .skip(at)
                    .take_while(|other| **other == end)
                    .count();
            }
            k += 1;
            let target = match &*object.path == DEAD_LETTERS {
                true => pipeline.dead_letters(),
                false => pipeline.target(),
            };
            let (bytes, content) = object.encoder.finish(target, compressor)?;
            let name = ObjectName {
                path: object.path.as_ref().to_owned(),
                topic: topic.to_owned(),
                partition,
                start,
                end,
                quiet_ms: (start == end).then_some(clock_ms),
                k,
                n,
                extension: target.extension.clone(),
            };
            objects.push(Object {
                key: name.to_string(),
                bytes: bytes.into(),
                content,
            });
        }
        Ok((objects, covered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::pipeline;

    #[test]
    fn names_of_records_tile_and_windows_share_the_last() {
        let pipeline = pipeline("layout='record'\n", "x");
        let compressor = Compressor::default();
        let (mut objects, mut counts) = (Objects::default(), Counts::default());
        for (to, offset) in [
            (To::Path("b"), 5),
            (To::PathAsBefore, 6),
            (To::Path("a"), 9),
            (To::PathAsBefore, 9),
            (To::Path("0"), 9),
        ] {
            let made = Made::Row { line: b"{}", to };
            objects
                .put(&made, offset, &pipeline, &mut counts, &compressor)
                .unwrap();
        }
        let made = objects.finish(("t", 0), ((3, 20), 1), &pipeline, &compressor);
        let (made, covered) = made.unwrap();
        let names: Vec<_> = made
            .iter()
            .map(|object| {
                let name = ObjectName::parse(&object.key).unwrap();
                (name.path, name.start, name.end, name.k, name.n)
            })
            .collect();
        let name = |path: &str, start, end, k, n| (path.to_owned(), start, end, k, n);
        let expected = [
            name("b", 3, 6, 1, 1),
            name("b", 6, 7, 1, 1),
            name("0", 7, 10, 1, 3),
            name("a", 7, 10, 2, 3),
            name("a", 7, 10, 3, 3),
        ];
        assert_eq!((names.as_slice(), covered), (&expected[..], 10));
    }
}
