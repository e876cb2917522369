use super::*;
use crate::partition::intent::Committed;

type Object = (u64, u64, usize, usize);

fn name((start, end, k, n): Object, quiet_ms: Option<u64>) -> ObjectName {
    ObjectName {
        path: String::new(),
        topic: "t".into(),
        partition: 0,
        start,
        end,
        quiet_ms,
        k,
        n,
        extension: "ndjson".into(),
    }
}

fn judged(objects: &[Object], known: &Known<'_>) -> PartitionReport {
    let mut batches = Batches::new();
    for object in objects {
        note(&mut batches, &name(*object, None));
    }
    judge(0, batches, known)
}

fn problems(objects: &[Object]) -> Vec<String> {
    judged(objects, &Known::default()).problems
}

/// What an older loader's state says.
fn older(end: u64) -> Option<States> {
    Some(States {
        end,
        ..States::default()
    })
}

/// What a state says whose last batch had a row, and was one of records.
fn named(from: u64, to: u64) -> Option<States> {
    Some(States {
        end: to,
        named: Some(Named { from, to }),
        quiet_ms: 50,
        rows_ms: 50,
        of_function: false,
    })
}

fn with(states: Option<States>) -> Known<'static> {
    Known {
        states,
        ..Known::default()
    }
}

#[test]
fn with_windows_what_ends_at_an_older_loaders_state_may_be_being_written() {
    let objects = [(0, 100, 1, 1), (100, 200, 1, 3)];
    let found = |has_windows, border| {
        let known = Known {
            has_windows,
            ..with(older(border))
        };
        judged(&objects, &known).problems
    };
    assert_eq!(found(true, 200), [""; 0]);
    assert_eq!(found(true, 201).len(), 1, "what lies below is judged");
    assert_eq!(found(false, 200).len(), 1);
}

#[test]
fn what_is_being_written_is_no_problem() {
    // Another batch of several paths was half listed, and of the one before it nothing was.
    let objects = [(0, 5, 1, 1), (5, 9, 1, 1), (20, 30, 2, 3)];
    let held_against = |states, stretch| {
        let known = Known {
            stretch,
            ..with(states)
        };
        judged(&objects, &known).problems
    };
    for states in [older(9), older(29), named(0, 9)] {
        assert_eq!(held_against(states, None), [""; 0]);
    }
    let of_function = States {
        of_function: true,
        ..named(0, 9).unwrap()
    };
    for states in [older(30), None, named(0, 30), Some(of_function)] {
        let found = held_against(states, None);
        assert!(found[0].starts_with("hole: [9, 20)"), "{found:?}");
        assert!(found[1].starts_with("missing: object 1 of 3"), "{found:?}");
        assert!(found[2].starts_with("missing: object 3 of 3"), "{found:?}");
    }
    let stretch = Stretch {
        from: 0,
        to: 30,
        done: None,
    };
    assert!(held_against(older(9), Some(&stretch)).len() > 3);
    for known in [with(older(9)), with(named(0, 9))] {
        // What is below is judged as ever.
        let found = judged(&[(0, 5, 1, 2), (5, 9, 1, 1)], &known).problems;
        assert!(found[0].starts_with("missing: object 2 of 2"), "{found:?}");
    }
    // Nothing but what is being written.
    for known in [with(older(3)), with(named(3, 3))] {
        let report = judged(&objects[2..], &known);
        assert_eq!(report.problems, [""; 0]);
        assert_eq!((report.first, report.last, report.being_written), (3, 3, 1));
    }
}

#[test]
fn of_many_objects_neighbours_are_told_together() {
    let n = 1_000_000;
    let found = problems(&[
        (0, 5, 7, n),
        (0, 5, 8, n),
        (0, 5, 8, n),
        (0, 5, 8, n),
        (0, 5, 9, n),
        (0, 5, 9, n),
    ]);
    assert_eq!(
        found,
        [
            "missing: objects 1 to 6 of 1000000 of [0, 5)",
            "missing: objects 10 to 1000000 of 1000000 of [0, 5)",
            "twice: objects 8 to 9 of 1000000 of [0, 5)",
        ]
    );
    // As many as they come, in any order, in no more than a sort.
    let all: Vec<_> = (1..=n).rev().map(|k| (0, 5, k, n)).collect();
    assert_eq!(problems(&all), [""; 0]);
}

fn of_stretch((from, to): (u64, u64), done: Option<(u64, u64)>, objects: &[Object]) -> Vec<String> {
    let done = done.map(|(offset, names_from)| Committed {
        offset,
        names_from,
        snapshot: None,
        intent: None,
    });
    let stretch = Stretch { from, to, done };
    let known = Known {
        states: named(0, 1000),
        stretch: Some(&stretch),
        ..Known::default()
    };
    judged(objects, &known).problems
}

#[test]
fn a_stretch_is_held_against_what_it_was_to_be() {
    let objects = [(3, 5, 1, 1), (5, 9, 1, 1)];
    let none: Vec<String> = Vec::new();
    assert_eq!(of_stretch((3, 9), Some((9, 9)), &objects), none);
    // Markers of transactions, or rows that were all filtered, behind the last object.
    assert_eq!(of_stretch((3, 12), Some((12, 9)), &objects), none);
    assert_eq!(of_stretch((3, 3), Some((3, 3)), &[]), none);
    assert_eq!(of_stretch((3, 9), Some((9, 3)), &[]), none);
    for ((from, to), done, objects, what) in [
        (
            (3, 12),
            Some((9, 9)),
            &objects[..],
            "not finished: [3, 9) of [3, 12)",
        ),
        ((3, 9), None, &objects[..1], "not finished: [3, 3)"),
        ((2, 9), Some((9, 9)), &objects[..], "hole: [2, 3)"),
        ((3, 9), Some((9, 9)), &objects[..1], "hole: [5, 9)"),
        ((3, 9), Some((9, 9)), &[], "hole: [3, 9)"),
    ] {
        let found = of_stretch((from, to), done, objects);
        assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
    }
}

#[test]
fn each_problem_is_found() {
    assert!(problems(&[(0, 5, 1, 2), (0, 5, 2, 2), (5, 9, 1, 1)]).is_empty());
    assert!(problems(&[(0, 5, 1, 1), (6, 9, 1, 1)])[0].contains("hole: [5, 6)"));
    assert!(problems(&[(0, 5, 1, 1), (4, 9, 1, 1)])[0].contains("overlap: [4, 5)"));
    assert!(problems(&[(0, 5, 1, 2)])[0].contains("missing: object 2 of 2"));
    assert!(problems(&[(0, 5, 1, 1), (0, 5, 1, 1)])[0].contains("twice"));
}

/// From where the state says that names begin, up to where it says that they end.
#[test]
fn what_is_missing_at_either_end_is_named() {
    let all = [
        (0, 10, 1, 1),
        (10, 20, 1, 2),
        (10, 20, 2, 2),
        (20, 30, 1, 1),
    ];
    let found = |objects: &[Object], states| judged(objects, &with(states)).problems;
    assert_eq!(found(&all, named(0, 30)), [""; 0]);
    // Batches without rows behind the last object.
    let mut quiet = named(0, 30);
    quiet.as_mut().unwrap().end = 99;
    assert_eq!(found(&all, quiet), [""; 0]);
    let end = "hole: [20, 30) is in no object: the newest are gone";
    assert_eq!(found(&all[..3], named(0, 30)), [end]);
    assert_eq!(found(&all[..3], quiet), [end]);
    let begin =
        "hole: [0, 20) is in no object: the oldest are gone (where data expires, say --expires)";
    assert_eq!(found(&all[3..], named(0, 30)), [begin]);
    let both = found(&all[1..3], named(0, 30));
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].starts_with("hole: [0, 10)") && both[1].starts_with("hole: [20, 30)"));
    let nothing = "hole: [0, 30) is in no object: nothing is left";
    assert_eq!(found(&[], named(0, 30)), [nothing]);
    // It has taken nothing with a row.
    let report = judged(&[], &with(named(7, 7)));
    assert_eq!((&report.problems[..], report.first), (&[][..], 7));
    // What was stored before the state began to say it: it tiles, and may be gone.
    assert_eq!(found(&all, named(10, 30)), [""; 0]);
    assert_eq!(found(&all[1..], named(10, 30)), [""; 0]);
    let tail = "hole: [10, 30) is in no object: the newest are gone";
    assert_eq!(found(&all[..1], named(20, 30)), [tail]);
    // An older loader's state says neither.
    for objects in [&all[..3], &all[3..], &[]] {
        assert_eq!(found(objects, older(30)), [""; 0]);
    }
}

#[test]
fn what_may_have_expired_is_told_and_is_no_problem() {
    let all = [(0, 10, 1, 1), (10, 20, 1, 1), (20, 30, 1, 1)];
    // The last row is of clock 50.
    let found = |objects: &[Object], expired_ms| {
        let known = Known {
            expired_ms: Some(expired_ms),
            ..with(named(0, 30))
        };
        let report = judged(objects, &known);
        let expired = report.expired.map(|named| (named.from, named.to));
        (report.problems.len(), expired)
    };
    for expired_ms in [10, 99] {
        assert_eq!(found(&all, expired_ms), (0, None));
        assert_eq!(found(&all[1..], expired_ms), (0, Some((0, 10))));
    }
    assert_eq!(found(&all[..2], 50), (1, None), "it is the newest");
    assert_eq!(found(&all[..2], 51), (0, None), "and as old as all else");
    assert_eq!(found(&[], 51), (0, Some((0, 30))));
    assert_eq!(found(&[], 50), (1, None), "it is not so old");
}

/// A rule removes objects in no order, and what was put together later than what it stands for is younger.
#[test]
fn where_some_have_expired_what_lies_below_them_is_not_missed() {
    let found = |expired_to| {
        let known = Known {
            expired_ms: Some(10),
            expired_to,
            ..with(named(0, 40))
        };
        // The second of the first batch is gone, and the second batch; so is one of the last.
        let objects = [(0, 10, 1, 2), (20, 30, 1, 1), (30, 40, 2, 2)];
        judged(&objects, &known).problems
    };
    let half = "missing: object 1 of 2 of [30, 40)".to_owned();
    assert_eq!(found(0).len(), 3);
    assert_eq!(found(30), [half]);
    assert_eq!(found(40), [""; 0]);
}

/// Batches without a record at the offset where names end: the state's clock says which of them are stored.
#[test]
fn with_windows_what_a_state_speaks_of_is_judged_to_its_end() {
    let judged = |states, quiet: &[(u64, usize, usize)]| {
        let mut batches = Batches::new();
        note(&mut batches, &name((0, 10, 1, 1), None));
        note(&mut batches, &name((10, 20, 2, 2), None));
        for (clock_ms, k, n) in quiet {
            note(&mut batches, &name((20, 20, *k, *n), Some(*clock_ms)));
        }
        let known = Known {
            has_windows: true,
            ..with(states)
        };
        let report = judge(0, batches, &known);
        (report.problems, report.being_written)
    };
    let half = "missing: object 1 of 2 of [10, 20)".to_owned();
    // As long as it speaks of what is before alone, that may be a batch without a record, on its way.
    let mut before = named(0, 10);
    before.as_mut().unwrap().end = 20;
    assert_eq!(judged(before, &[]), (vec![], 1));
    assert_eq!(judged(named(0, 20), &[]), (vec![half.clone()], 0));
    let quiet = [(40, 1, 1), (50, 2, 2), (60, 1, 2)];
    let lacks = "missing: object 1 of 2 of [20, 20)".to_owned();
    assert_eq!(judged(named(0, 20), &quiet), (vec![half, lacks], 1));
}

mod reference {
    //! Against a life that is written down: what was stored, up to where the state speaks, and what was removed.

    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// What was stored, in order, and what the newest state says of the first `spoken` of it.
    struct Life {
        stored: Vec<ObjectName>,
        states: States,
        spoken: usize,
    }

    /// `batches`: how many offsets each is long, how many objects it has (none where all of it was filtered), and
    /// whether it has no record. `speaks`: how many of them the state knows.
    fn live(from: u64, batches: &[(u64, usize, bool)], speaks: usize) -> Life {
        let mut life = Life {
            stored: Vec::new(),
            states: States {
                quiet_ms: 0,
                ..named(from, from).unwrap()
            },
            spoken: 0,
        };
        let (mut end, mut to, mut clock_ms) = (from, from, 0);
        for (at, &(length, n, has_no_record)) in batches.iter().enumerate() {
            clock_ms += 10;
            end += if has_no_record { 0 } else { length };
            let quiet_ms = (to == end).then_some(clock_ms);
            let names = (1..=n).map(|k| name((to, end, k, n), quiet_ms));
            life.stored.extend(names);
            to = if n > 0 { end } else { to };
            if at < speaks {
                life.spoken = life.stored.len();
                life.states = States {
                    end,
                    named: Some(Named { from, to }),
                    quiet_ms: if to == end { clock_ms } else { u64::MAX },
                    rows_ms: clock_ms,
                    of_function: false,
                };
            }
        }
        life
    }

    impl Life {
        /// Ranges of which nothing is left, neighbours together, and those of which something is.
        fn lacks(&self, gone: &BTreeSet<usize>) -> (Vec<String>, BTreeSet<String>) {
            let id = |name: &ObjectName| (name.start, name.end, name.quiet_ms);
            let left = self.stored.iter().enumerate();
            let left = left.filter(|(at, _)| !gone.contains(at));
            let left: BTreeSet<_> = left.map(|(_, name)| id(name)).collect();
            let told = |(start, end): (u64, u64)| format!("[{start}, {end})");
            let (mut holes, mut parts) = (Vec::new(), BTreeSet::new());
            let mut hole: Option<(u64, u64)> = None;
            for (at, name) in self.stored[..self.spoken].iter().enumerate() {
                let range = (name.start, name.end);
                if left.contains(&id(name)) {
                    holes.extend(hole.take().map(told));
                    parts.extend(gone.contains(&at).then(|| told(range)));
                } else if name.start < name.end {
                    hole = Some((hole.map_or(name.start, |hole| hole.0), name.end));
                }
            }
            holes.extend(hole.map(told));
            (holes, parts)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Each lost range is named, and each of which a part is lost, and nothing else. Of what the state does not
        /// speak of yet, anything may be missing.
        #[test]
        fn what_was_removed_is_what_is_told(
            from in 0_u64..5,
            batches in prop::collection::vec((1_u64..9, 0_usize..4, prop::bool::weighted(0.2)), 0..12),
            speaks in 0_usize..13,
            removed in prop::collection::vec(any::<Index>(), 0..6),
            all in prop::bool::weighted(0.1),
        ) {
            let life = live(from, &batches, speaks);
            let stored = life.stored.len();
            let gone: BTreeSet<usize> = match all || stored == 0 {
                true => (0..stored).collect(),
                false => removed.iter().map(|index| index.index(stored)).collect(),
            };
            let mut seen = Batches::new();
            for (at, name) in life.stored.iter().enumerate() {
                if !gone.contains(&at) {
                    note(&mut seen, name);
                }
            }
            let problems = judge(0, seen, &with(Some(life.states))).problems;
            let hole = |told: &String| Some(told.strip_prefix("hole: ")?.split_once(" is in no object")?.0.to_owned());
            let part = |told: &String| Some(told.strip_prefix("missing: ")?.rsplit_once(" of ")?.1.to_owned());
            let holes: Vec<String> = problems.iter().filter_map(hole).collect();
            let parts: Vec<String> = problems.iter().filter_map(part).collect();
            prop_assert_eq!(holes.len() + parts.len(), problems.len(), "{:?}", problems);
            prop_assert_eq!((holes, parts.into_iter().collect()), life.lacks(&gone), "{:?}", problems);
        }
    }
}
