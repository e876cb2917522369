//! A new configuration while files are followed: what did not change goes on.

use std::time::Duration;

use glob::Pattern;

use super::rig::Rig;
use crate::config::FileSource;
use crate::config::file::LastLine;
use crate::process::RateLimit;

/// A rig whose second source follows `b.log`.
fn two() -> Rig {
    let mut rig = Rig::new("app.log");
    let path = rig.path("b.log").display().to_string();
    rig.second = Some(FileSource {
        id: "second".parse().unwrap(),
        paths: vec![Pattern::new(&path).unwrap()],
        ..rig.source.clone()
    });
    rig
}

#[test]
fn beside_a_changed_source_a_last_line_waits_on() {
    let mut rig = two();
    if let Some(second) = &mut rig.second {
        second.last_line = LastLine::Complete;
        second.last_line_after = Duration::from_secs(3);
    }
    rig.append("app.log", "one\npar");
    rig.append("b.log", "b\nlast");
    rig.start();
    assert_eq!(rig.lines(), ["one", "b"]);
    rig.seconds_later(2);
    // The first source goes, and comes as another behind the second.
    rig.source.process.rate_limit = Some(RateLimit {
        records: 1000,
        per: Duration::from_secs(60),
    });
    rig.change();
    rig.append("app.log", "tial\n");
    assert_eq!(rig.lines(), ["partial"]);
    rig.later(1);
    assert_eq!(rig.lines(), ["last"], "three seconds after it was written");
    assert_eq!(rig.generations().len(), 2);
    assert_eq!((rig.tiled_to(0), rig.tiled_to(1)), (12, 6));
    assert_eq!(rig.closes().len(), 0);
}

#[test]
fn beside_a_changed_source_repeats_are_counted_on() {
    let mut rig = two();
    if let Some(second) = &mut rig.second {
        second.process.repeats = Some(Duration::from_secs(30));
    }
    rig.append("app.log", "one\n");
    rig.append("b.log", "b\nb\n");
    rig.start();
    assert_eq!(rig.lines(), ["one", "b"]);
    rig.source.close_after = Duration::from_secs(7);
    rig.change();
    rig.append("b.log", "b\nc\n");
    // Of the repeats one record, that has all three.
    assert_eq!(rig.lines(), ["b", "c"]);
    assert_eq!(rig.generations().len(), 2);
    assert_eq!(rig.tiled_to(1), 8);
}

#[test]
fn a_source_that_is_gone_is_read_no_more_and_goes_on_where_it_was() {
    let mut rig = two();
    rig.append("app.log", "one\n");
    rig.append("b.log", "b\n");
    rig.start();
    rig.pump();
    rig.remove_first();
    rig.append("app.log", "two\n");
    rig.append("b.log", "c\n");
    rig.rename("b.log", "b.log.1");
    rig.append("b.log", "d\n");
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "b", "c", "d"]);
    assert_eq!(rig.closes().len(), 1);
    rig.add_first();
    rig.append("app.log", "three\n");
    rig.pass_time();
    assert_eq!(rig.all_lines(), ["one", "b", "c", "d", "two", "three"]);
    assert_eq!(rig.generations().len(), 3);
}
