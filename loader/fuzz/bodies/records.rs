//! Records as an enemy sends them, one a line: `<span> <stream> <value>`, headers as they come. Whatever
//! they are, a partition takes them all, closes its batch, and each is a row, a dead letter, a repeat, or
//! counted in a window.

use std::sync::{Arc, LazyLock};

use headwater_loader::fetched::{Fetched, Identity};
use headwater_loader::partition::intent::Committed;
use headwater_loader::partition::{Action, Event, Limits, Now, Partition};
use headwater_loader::pipeline::{Pipeline, PipelineSpec};

const SPEC: &str = r#"{
    "transform": [
        {"step": "parse", "format": "json", "field": "message"},
        {"step": "flatten", "separator": "."},
        {"step": "aggregate", "window": "1m", "every": "20s", "by": ["device", "/a/b"], "keep_records": true,
         "compute": [{"function": "count"}, {"function": "sum", "field": "v"}, {"function": "last", "field": "v"},
                     {"function": "distinct", "field": "v"}, {"function": "quantile", "q": 0.5, "field": "v"}]},
        {"step": "timestamp", "field": "ts", "formats": ["rfc3339", "unix_ms"]},
        {"step": "route", "path": "e/{level}", "when": {"field": "level", "exists": true}}
    ],
    "tables": {}, "path": "s={source}/d={time:%Y-%m-%d}", "compression": "none", "ledger_retention": "1h"
}"#;

static PIPELINE: LazyLock<Arc<Pipeline>> = LazyLock::new(|| {
    let spec: PipelineSpec = serde_json::from_str(SPEC).expect("a specification");
    Arc::new(Pipeline::new(spec, |_| None).expect("a pipeline"))
});

pub(crate) fn run(bytes: &[u8]) {
    let mut fetched = Fetched::default();
    for (offset, line) in (0..).zip(bytes.split(|byte| *byte == b'\n')) {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (span, stream) = (parts.next(), parts.next());
        let headers = [("hw-span", span), ("hw-stream", stream)];
        let last = fetched.entries.last().map(|entry| &entry.identity);
        let identity = Identity::read(
            headers.into_iter().filter(|(_, value)| value.is_some()),
            last,
        );
        fetched.push(offset, 0, parts.next(), identity);
    }
    let committed = Committed::at(0);
    let limits = Limits::NONE;
    let now = Now {
        mono_ms: 0,
        wall_ms: 1_795_852_800_000,
    };
    let pipeline = Arc::clone(&PIPELINE);
    let state = Default::default();
    let mut partition =
        Partition::recover(("logs", 0), limits, pipeline, committed, state, None).expect("memory");
    let taken = partition.take(&fetched, 0, now).expect("it takes them");
    assert_eq!(taken, fetched.entries.len());
    partition.apply(Event::Stop, now).expect("it closes");
    while let Some(action) = partition.next_action() {
        if let Action::Upload(objects) = &action {
            for object in objects.iter() {
                assert!(object.key.len() < 1024, "{}", object.key);
                let parts = object.key.split('/');
                assert!(parts.clone().all(|part| part != ".." && !part.is_empty()));
                assert!(!object.key.starts_with("_headwater"));
            }
        }
        partition.apply(Event::ActionDone, now).expect("it goes on");
    }
    assert!(partition.is_finished());
    let counts = partition.take_counts();
    let [counts] = counts[..] else {
        panic!("one batch: {counts:?}")
    };
    assert_eq!(counts.records, fetched.entries.len() as u64);
    let own = counts.rows - counts.windows;
    assert_eq!(
        own + counts.filtered + counts.aggregated + counts.duplicates + counts.notices,
        counts.records
    );
}
