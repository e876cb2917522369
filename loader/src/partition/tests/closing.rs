//! When a batch closes, and what of it.

use super::*;

/// While the output is down one batch closes for hours. An open one that is due waits, and nobody is woken
/// for it in vain.
#[test]
fn what_is_due_waits_for_the_batch_that_closes() {
    let limits = Limits {
        age_ms: 10,
        ..Limits::NONE
    };
    let committed = Committed::at(0);
    let pipeline = Arc::new(pipeline("", "all"));
    let mut partition = Partition::recover(
        (TOPIC, 0),
        limits,
        pipeline,
        committed,
        <_>::default(),
        None,
    )
    .unwrap();
    let mut fetched = Fetched::default();
    fetched.push(0, 0, Some(b"{}"), Identity::Foreign);
    fetched.push(1, 0, Some(b"{}"), Identity::Foreign);
    let at = |mono_ms| Now {
        mono_ms,
        wall_ms: 1_764_000_000_000 + mono_ms,
    };
    let one = Fetched {
        entries: fetched.entries[..1].to_vec(),
        ..fetched.clone()
    };
    assert_eq!(partition.take(&one, 0, at(0)).unwrap(), 1);
    assert_eq!(partition.next_deadline(), Some(10));
    partition.apply(Event::Tick, at(10)).unwrap();
    assert!(matches!(partition.next_action(), Some(Action::Commit(_))));
    assert_eq!(partition.take(&fetched, 1, at(11)).unwrap(), 1);
    partition.apply(Event::Tick, at(5000)).unwrap();
    assert_eq!(partition.next_deadline(), None);
    assert_eq!(partition.next_action(), None);
    // The closing one's four steps; with the last, the next batch begins to close.
    for _ in 0..4 {
        partition.apply(Event::ActionDone, at(6000)).unwrap();
        while partition.next_action().is_some() {}
    }
    assert_eq!(partition.committed_offset(), 1);
    partition.apply(Event::ActionDone, at(6001)).unwrap();
    assert!(matches!(partition.next_action(), Some(Action::Upload(_))));
}

/// A batch without rows has no boundary, and one that is done waits for nobody.
#[test]
fn only_what_the_group_may_hold_is_begun() {
    let limits = Limits {
        records: 1,
        ..Limits::NONE
    };
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let steps = "[[transform]]\nstep='keep'\nfield='kept'\nin=['yes']\n";
    for (value, begins) in [(r#"{"kept":"yes"}"#, true), (r#"{"kept":"no"}"#, false)] {
        let (pipeline, state) = (Arc::new(pipeline(steps, "all")), <_>::default());
        let committed = Committed::at(0);
        let mut partition =
            Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
        let mut fetched = Fetched::default();
        fetched.push(0, 0, Some(value.as_bytes()), Identity::Foreign);
        assert!(!partition.has_begun());
        assert_eq!(partition.take(&fetched, 0, now).unwrap(), 1);
        assert_eq!(partition.has_begun(), begins, "{value}");
        while let Some(action) = partition.next_action() {
            if action.is_awaited() {
                partition.apply(Event::ActionDone, now).unwrap();
            }
        }
        assert_eq!(
            (partition.committed_offset(), partition.has_begun()),
            (1, false)
        );
    }
}

/// What is open when it is told to flush closes, behind one that closes already, and nothing that came later.
#[test]
fn a_flush_closes_what_is_open_and_no_more() {
    let limits = Limits::NONE;
    let committed = Committed::at(0);
    let pipeline = Arc::new(pipeline("", "all"));
    let state = <_>::default();
    let mut partition =
        Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let mut log = Fetched::default();
    (0..4).for_each(|offset| log.push(offset, 0, Some(b"{}"), Identity::Foreign));
    // There is nothing, and nothing is remembered of it.
    partition.apply(Event::Flush, now).unwrap();
    let take = |partition: &mut Partition, upto: usize| {
        let fetched = Fetched {
            entries: log.entries[..upto].to_vec(),
            ..log.clone()
        };
        partition.take(&fetched, 0, now).unwrap();
        partition.next_action()
    };
    let ends = |action: Option<Action>| match action {
        Some(Action::Commit(begun)) => begun.intent.map(|intent| intent.end),
        _ => None,
    };
    assert_eq!(ends(take(&mut partition, 1)), None);
    partition.apply(Event::Flush, now).unwrap();
    assert_eq!(ends(partition.next_action()), Some(1));
    // While that closes.
    assert_eq!(take(&mut partition, 3), None);
    partition.apply(Event::Flush, now).unwrap();
    assert_eq!(partition.next_action(), None);
    let done = |partition: &mut Partition| {
        (0..4).for_each(|_| partition.apply(Event::ActionDone, now).unwrap());
        std::iter::from_fn(|| partition.next_action()).find_map(|action| ends(Some(action)))
    };
    assert_eq!(done(&mut partition), Some(3));
    assert_eq!(take(&mut partition, 4), None);
    assert_eq!(done(&mut partition), None, "what came later stays open");
    partition.apply(Event::Tick, now).unwrap();
    assert_eq!(partition.next_action(), None);
}

/// Takes one record at each of these times and tells when a batch of how many records was closed.
fn closed_at(limits: Limits, wall_ms: u64, records_at: &[u64]) -> Vec<(u64, u64)> {
    let committed = Committed::at(0);
    let pipeline = Arc::new(pipeline("", "all"));
    let state = <_>::default();
    let mut partition =
        Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
    let mut closed = Vec::new();
    let mut fetched = Fetched::default();
    for mono_ms in 0..1000 {
        let now = Now {
            mono_ms,
            wall_ms: wall_ms + mono_ms,
        };
        if records_at.contains(&mono_ms) {
            let offset = fetched.entries.len() as u64;
            let identity = Identity::Foreign;
            fetched.push(offset, 0, Some(b"{}"), identity);
            let at = fetched.entries.len() - 1;
            assert_eq!(partition.take(&fetched, at, now).unwrap(), 1);
        } else {
            partition.apply(Event::Tick, now).unwrap();
        }
        let Some(Action::Commit(begun)) = partition.next_action() else {
            continue;
        };
        closed.push((mono_ms, begun.intent.unwrap().end));
        for _ in 0..4 {
            partition.apply(Event::ActionDone, now).unwrap();
            while partition.next_action().is_some() {}
        }
    }
    closed
}

#[test]
fn batches_are_closed_by_the_clock() {
    let never = Limits::NONE;
    let aged = Limits {
        age_ms: 300,
        ..never
    };
    let idle = Limits {
        idle_ms: Some(50),
        ..aged
    };
    let every = Limits {
        every_ms: Some(100),
        ..never
    };
    for (name, limits, records_at, expected) in [
        ("nothing is due", never, &[5, 10][..], &[][..]),
        ("age counts from the first", aged, &[5, 250], &[(305, 2)]),
        (
            "idle counts from the last",
            idle,
            &[5, 40, 80, 500],
            &[(130, 3), (550, 4)],
        ),
        (
            "age bounds what never is idle",
            idle,
            &[0, 40, 80, 120, 160, 200, 240, 280, 320],
            &[(300, 8), (370, 9)],
        ),
        // The wall clock stands at 30 of 100 when the monotonic one is at 0.
        ("the next mark", every, &[5, 20], &[(70, 2)]),
        (
            "a record on the mark is the next one's",
            every,
            &[5, 70, 71],
            &[(70, 1), (170, 3)],
        ),
        (
            "no records, no batch",
            every,
            &[5, 400],
            &[(70, 1), (470, 2)],
        ),
    ] {
        assert_eq!(
            closed_at(limits, 1_764_000_000_030, records_at),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_batch_closes_at_its_bytes() {
    let mut fetched = Fetched::default();
    let value = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    for offset in 0..4000 {
        fetched.push(offset, 0, Some(value.as_bytes()), Identity::Foreign);
    }
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS,
    };
    let taken = |bytes: usize| {
        let limits = Limits {
            bytes,
            ..Limits::NONE
        };
        let (pipeline, state) = (Arc::new(pipeline("", "all")), <_>::default());
        let committed = Committed::at(0);
        let mut partition =
            Partition::recover((TOPIC, 0), limits, pipeline, committed, state, None).unwrap();
        let taken = partition.take(&fetched, 0, now).unwrap();
        let action = partition.next_action();
        (taken, matches!(action, Some(Action::Commit(_))))
    };
    let ((some, closes), (more, closes_later)) = (taken(64 << 10), taken(256 << 10));
    assert!(closes && closes_later);
    assert!(
        (32..=256).contains(&some) && (256..=1024).contains(&more),
        "{some} and {more} records of 1 kB"
    );
    assert_eq!(taken(usize::MAX), (4000, false));
}

/// A record of each of five groups, and one of each two minutes later; then more of one.
fn minutes_of_groups() -> Fetched {
    let mut log = Fetched::default();
    let mut push = |group: &str, minute: u64| {
        let value = format!(r#"{{"g":"{group}","time":"2026-11-28T08:{minute:02}:00Z"}}"#);
        let offset = log.entries.len() as u64;
        log.push(offset, 0, Some(value.as_bytes()), Identity::Foreign);
    };
    for group in ["a", "b", "c", "d", "e"] {
        push(group, 0);
    }
    for group in ["a", "b", "c", "d", "e", "a", "a", "a"] {
        push(group, 2);
    }
    log
}

/// A path for each group: windows that close with one batch make no more objects than a batch may have, those
/// that are left close with the next ones, at their first records, and whoever makes a batch again, with other
/// limits, makes the same.
#[test]
fn windows_beyond_the_bound_of_objects_close_with_the_next_batch() {
    let limits = |objects: usize| Limits {
        records: 1,
        objects,
        ..Limits::NONE
    };
    let steps = "[[transform]]\nstep='aggregate'\nwindow='1m'\nlateness='0s'\nby=['g']\npath='w/{g}'\n\
                 compute=[{function='count'}]\n";
    let pipeline = Arc::new(pipeline(steps, "all"));
    let now = Now {
        mono_ms: 0,
        wall_ms: EIGHT_MS + 86_400_000,
    };
    let log = minutes_of_groups();
    let start = Committed::at(0);
    let one_batch = Limits {
        records: 10,
        ..limits(2)
    };
    let who = (TOPIC, 0);
    let state = Carried::default();
    let current = Arc::clone(&pipeline);
    let mut partition =
        Partition::recover(who, one_batch, current, start.clone(), state, None).unwrap();
    let (mut uploaded, mut boundaries, mut at) = (Vec::new(), Vec::new(), 0);
    for _ in 0..4 {
        at += partition.take(&log, at, now).unwrap();
        let (paths, begun) = perform(&mut partition, now);
        uploaded.extend(paths);
        boundaries.extend(begun);
    }
    assert_eq!(at, log.entries.len());
    let expected: [&[&str]; 3] = [&["w/a", "w/b"], &["w/c", "w/d"], &["w/e"]];
    assert_eq!(uploaded, expected);
    let closed: Vec<_> = boundaries
        .iter()
        .map(|begun| (begun.end, begun.windows))
        .collect();
    assert_eq!(closed, [(10, Some(2)), (11, Some(2)), (12, None)]);
    // Made again by one that has room for all.
    let begun = Committed {
        intent: Some(boundaries[0].clone()),
        ..start
    };
    let replay = Replay {
        intent: boundaries[0].clone(),
        pipeline: Arc::clone(&pipeline),
    };
    let state = Carried::default();
    let mut again =
        Partition::recover(who, limits(1000), pipeline, begun, state, Some(replay)).unwrap();
    again.take(&log, 0, now).unwrap();
    let Some(Action::Upload(objects)) = again.next_action() else {
        panic!("it makes the batch again")
    };
    assert_eq!(objects.len(), 2);
}
