//! Loss notices that sources made, by reason, for who asks how it goes.

use std::collections::BTreeMap;

use headwater_record::Kind;
use headwater_record::notice::Notice;

use crate::batch::Batch;

/// How many there were since the start, by reason (`headwater_record::notice::reason`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Losses(BTreeMap<String, u64>);

impl Losses {
    /// Counts what a batch says that is lost. Most batches say nothing of the kind.
    pub(super) fn count(&mut self, batch: &Batch) {
        let notices = batch.records().filter(|record| record.kind == Kind::Loss);
        for notice in notices {
            if let Some(Notice::Loss { reason, .. }) = Notice::parse(notice.value) {
                *self.0.entry(reason).or_default() += 1;
            }
        }
    }

    /// The counts.
    pub(super) fn by_reason(&self) -> BTreeMap<String, u64> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use headwater_record::notice::{Tail, reason};
    use headwater_record::value::ValueWriter;
    use headwater_record::{Generation, StreamId};

    use super::*;
    use crate::batch::Entry;

    #[test]
    fn losses_are_counted_by_their_reason_and_nothing_else_is() {
        let (device, source) = ("d".parse().unwrap(), "s".parse().unwrap());
        let writer = ValueWriter::new(&device, &source);
        let loss = |reason: &str| Notice::Loss {
            reason: reason.into(),
            records: Some(9),
        };
        let close = Notice::Close {
            reason: reason::ROTATED.into(),
            tail: Tail::Complete,
        };
        let notices = [
            (Kind::Loss, loss(reason::NUL_RUN)),
            (Kind::Loss, loss(reason::RATE_LIMITED)),
            (Kind::Close, close),
            (Kind::Loss, loss(reason::NUL_RUN)),
        ];
        let (mut values, mut entries) = (Vec::new(), Vec::new());
        for (end, (kind, notice)) in (1..).zip(&notices) {
            writer.notice(&mut values, 0, notice);
            let value_end = u32::try_from(values.len()).unwrap();
            entries.push(Entry {
                end,
                value_end,
                kind: *kind,
            });
        }
        let batch = Batch {
            stream: StreamId::new(&device, &source, b"/x").unwrap(),
            generation: Generation(1),
            start: 0,
            entries,
            values,
            raw: false,
            permit: None,
        };
        let mut losses = Losses::default();
        losses.count(&batch);
        losses.count(&batch);
        let expected = [(reason::NUL_RUN, 4), (reason::RATE_LIMITED, 2)];
        let expected = expected.map(|(reason, count)| (reason.to_owned(), count));
        assert_eq!(losses.by_reason(), BTreeMap::from(expected));
    }
}
