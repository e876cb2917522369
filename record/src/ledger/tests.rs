use super::scan::{Part, Scan};
use super::*;
use crate::notice::reason;
use proptest::prelude::*;

const GENERATION: Generation = Generation(7);

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end).unwrap()
}

fn accept(ledger: &mut Ledger, start: u64, end: u64) -> Verdict {
    ledger.accept("d/s/p", GENERATION, span(start, end), 1)
}

fn gaps(ledger: &Ledger) -> Vec<Span> {
    ledger
        .get("d/s/p", GENERATION)
        .unwrap()
        .gaps
        .iter()
        .collect()
}

#[test]
fn each_verdict() {
    let mut ledger = Ledger::default();
    assert_eq!(accept(&mut ledger, 0, 10), Verdict::New);
    assert_eq!(accept(&mut ledger, 0, 10), Verdict::Duplicate);
    assert_eq!(accept(&mut ledger, 5, 10), Verdict::Duplicate);
    assert_eq!(accept(&mut ledger, 20, 30), Verdict::New);
    assert_eq!(gaps(&ledger), [span(10, 20)]);
    assert_eq!(accept(&mut ledger, 12, 14), Verdict::New);
    assert_eq!(gaps(&ledger), [span(10, 12), span(14, 20)]);
    assert_eq!(accept(&mut ledger, 5, 12), Verdict::Overlap);
    assert_eq!(accept(&mut ledger, 25, 35), Verdict::Overlap);
    assert_eq!(accept(&mut ledger, 14, 20), Verdict::New);
    assert_eq!(gaps(&ledger), []);
    let state = ledger.get("d/s/p", GENERATION).unwrap();
    assert_eq!(
        (
            state.settled,
            state.records,
            state.duplicates,
            state.repeated
        ),
        (35, 6, 2, 10)
    );
}

#[test]
fn a_loss_notice_explains_a_gap_and_a_close_opens_one() {
    let mut ledger = Ledger::default();
    accept(&mut ledger, 0, 10);
    accept(&mut ledger, 30, 40);
    let loss = Notice::Loss {
        reason: reason::WINDOW_FULL.into(),
        records: None,
    };
    ledger.explain(
        "d/s/p",
        GENERATION,
        span(10, 30),
        Kind::Loss,
        Some(&loss),
        2,
    );
    ledger.explain(
        "d/s/p",
        GENERATION,
        span(10, 30),
        Kind::Loss,
        Some(&loss),
        2,
    );
    assert_eq!(ledger.unexplained_gaps(), 0);
    let close = Notice::Close {
        reason: reason::ROTATED.into(),
        tail: Tail::Complete,
    };
    ledger.explain(
        "d/s/p",
        GENERATION,
        span(50, 50),
        Kind::Close,
        Some(&close),
        3,
    );
    assert_eq!(gaps(&ledger), [span(40, 50)]);
    let state = ledger.get("d/s/p", GENERATION).unwrap();
    assert_eq!(state.lost, BTreeMap::from([("window-full".to_owned(), 20)]));
    assert_eq!(state.closed.as_ref().unwrap().reason, "rotated");
    assert_eq!(ledger.retire(100, 0), 0, "a gap is kept for audit");
    accept(&mut ledger, 40, 50);
    assert_eq!(ledger.retire(100, 0), 1);
    assert_eq!(ledger.streams().count(), 0, "nothing of it is left");
    let forgotten = Forgotten {
        streams: 1,
        generations: 1,
        records: 3,
    };
    assert_eq!(ledger.forgotten(), forgotten);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn absurd_spans_stay_bounded() {
    let mut ledger = Ledger::default();
    assert_eq!(accept(&mut ledger, u64::MAX - 1, u64::MAX), Verdict::New);
    assert_eq!(accept(&mut ledger, u64::MAX, u64::MAX), Verdict::Duplicate);
    assert_eq!(accept(&mut ledger, 0, u64::MAX), Verdict::Overlap);
    for i in 0..5000 {
        ledger.accept("d/s/q", GENERATION, span(3 * i + 1, 3 * i + 2), 1);
    }
    assert_eq!(
        ledger.get("d/s/q", GENERATION).unwrap().gaps.len(),
        GAPS_MAX
    );
    // In the middle of one gap, too.
    ledger.accept("d/s/r", GENERATION, span(90_000, 90_001), 1);
    for i in 0..5000 {
        ledger.accept("d/s/r", GENERATION, span(3 * i + 1, 3 * i + 2), 1);
    }
    let gaps = &ledger.get("d/s/r", GENERATION).unwrap().gaps;
    assert_eq!(gaps.len(), GAPS_MAX);
}

#[test]
fn a_bound_holds_whatever_comes_and_what_is_known_goes_on() {
    const MAX: usize = 40_000;
    let mut ledger = Ledger::default();
    ledger.bound(MAX);
    accept(&mut ledger, 0, 10);
    let loss = |reason: String| Notice::Loss {
        reason,
        records: None,
    };
    let mut refused = 0;
    for i in 0..3000_u64 {
        let name = format!("d/s/{}", i % 700);
        let verdict = ledger.accept(&name, Generation(i), span(9 * i + 3, 9 * i + 5), i);
        refused += u64::from(verdict == Verdict::Unaccounted);
        // Gaps and reasons of what is known grow no further, either.
        let at = span(20 * i + 15, 20 * i + 20);
        let lost = loss(format!("reason-{i}"));
        assert!(
            ledger
                .explain("d/s/p", GENERATION, at, Kind::Loss, Some(&lost), i)
                .is_some()
        );
        let known = Generation(i % 50);
        ledger.accept(&format!("d/s/{}", i % 50), known, at, i);
    }
    assert!(refused > 2000, "{refused}");
    assert!(ledger.unaccounted() >= refused);
    // One gap of each generation, and one reason more, may stand above it.
    let generations = ledger.streams().flat_map(|(_, of)| of.generations.values());
    assert!(
        ledger.held() <= MAX + 16 * generations.count() + 128,
        "{}",
        ledger.held()
    );
    let state = ledger.get("d/s/p", GENERATION).unwrap();
    assert!(state.lost.len() <= REASONS_MAX + 1 && state.lost.contains_key(OTHER_REASONS));
    assert_eq!(accept(&mut ledger, 0, 10), Verdict::Duplicate);
    assert_eq!(accept(&mut ledger, 70_000, 70_010), Verdict::New);
    let lost = loss("late".into());
    let new = Generation(99_999);
    assert!(
        ledger
            .explain("d/s/new", new, span(0, 1), Kind::Loss, Some(&lost), 1)
            .is_none()
    );
    assert_eq!(ledger.get("d/s/new", new), None);
    // Where there is room again, new ones are taken in.
    ledger.bound(usize::MAX);
    assert_eq!(ledger.accept("d/s/new", new, span(0, 1), 1), Verdict::New);
}

#[test]
fn snapshots_read_back() {
    let mut ledger = Ledger::default();
    accept(&mut ledger, 0, 10);
    accept(&mut ledger, 20, 30);
    let text = serde_json::to_string(&ledger).unwrap();
    assert_eq!(
        text,
        r#"{"streams":{"d/s/p":{"generations":{"0000000000000007":{"settled":30,"gaps":[[10,20]],"records":2,"seen_ms":1}}}}}"#
    );
    assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
}

/// The ledger that a scan of this text makes, and what it said of forgotten generations.
fn scanned(text: &str) -> Result<Ledger, serde_json::Error> {
    use serde::de::DeserializeSeed;
    let mut ledger = Ledger::default();
    let each = |part: Part<'_>| {
        match part {
            Part::Generation {
                stream,
                generation,
                state,
            } => {
                let of = ledger.streams.entry(stream.into()).or_default();
                of.generations.insert(generation, Box::new(state));
            }
            Part::Stream {
                stream,
                retired,
                retired_records,
            } => {
                let of = ledger.streams.entry(stream.into()).or_default();
                (of.retired, of.retired_records) = (retired, retired_records);
            }
            Part::End {
                forgotten,
                unaccounted,
            } => (ledger.forgotten, ledger.unaccounted) = (forgotten, unaccounted),
        }
        Ok(())
    };
    let mut json = serde_json::Deserializer::from_str(text);
    Scan(each).deserialize(&mut json)?;
    json.end()?;
    ledger.room = Room::of(&ledger.streams);
    Ok(ledger)
}

#[test]
fn a_scan_refuses_another_order_and_stops_where_it_is_told() {
    let generation = r#"{"settled":1,"seen_ms":1}"#;
    let stream = format!(r#"{{"generations":{{"0000000000000007":{generation}}}}}"#);
    let good = format!(r#"{{"later":[1],"streams":{{"a/b/c":{stream},"a/b/d":{stream}}}}}"#);
    assert_eq!(scanned(&good).unwrap().streams().count(), 2);
    for bad in [
        format!(r#"{{"streams":{{"a/b/d":{stream},"a/b/c":{stream}}}}}"#),
        format!(r#"{{"streams":{{"a/b/c":{stream},"a/b/c":{stream}}}}}"#),
        format!(
            r#"{{"streams":{{"a/b/c":{{"generations":{{"0000000000000007":{generation},"0000000000000006":{generation}}}}}}}}}"#
        ),
    ] {
        let error = scanned(&bad).unwrap_err().to_string();
        assert!(error.contains("not in the order"), "{error}");
    }
    let mut json = serde_json::Deserializer::from_str(&good);
    let stopped = serde::de::DeserializeSeed::deserialize(
        Scan(|_: Part<'_>| Err("enough".to_owned())),
        &mut json,
    );
    assert!(stopped.unwrap_err().to_string().contains("enough"));
}

/// Spans that tile a generation, from lengths.
fn tile(lengths: &[u64]) -> Vec<Span> {
    let mut at = 0;
    lengths
        .iter()
        .map(|length| {
            let tile = span(at, at + length);
            at += length;
            tile
        })
        .collect()
}

/// One batch had a clock far ahead. What it named goes on with the clocks that come behind it.
#[test]
fn a_clock_that_was_ahead_keeps_no_generation_for_ever() {
    const AHEAD_MS: u64 = 4_070_908_800_000;
    let (now_ms, keep_ms) = (1_795_852_800_000, 1000);
    let mut ledger = Ledger::default();
    let other = Generation(8);
    for generation in [GENERATION, other] {
        ledger.accept("d/s/p", generation, span(0, 10), now_ms);
        let close = Notice::Close {
            reason: reason::ROTATED.into(),
            tail: Tail::Complete,
        };
        let (at, close) = (span(10, 11), Some(&close));
        ledger.explain("d/s/p", generation, at, Kind::Close, close, AHEAD_MS);
    }
    assert_eq!(ledger.retire(AHEAD_MS, keep_ms), 0);
    // A record names one again; the other is closed, and nothing names it any more.
    ledger.accept("d/s/p", GENERATION, span(0, 10), now_ms);
    assert_eq!(ledger.get("d/s/p", GENERATION).unwrap().seen_ms, now_ms);
    assert_eq!(ledger.retire(now_ms, keep_ms), 0, "its time begins here");
    assert_eq!(ledger.get("d/s/p", other).unwrap().seen_ms, now_ms);
    assert_eq!(ledger.retire(now_ms + keep_ms, keep_ms), 0);
    assert_eq!(ledger.retire(now_ms + keep_ms + 1, keep_ms), 2);
}

proptest! {
    /// What a scan hands over is the ledger.
    #[test]
    fn a_scan_hands_over_all_of_a_ledger(
        records in prop::collection::vec((0_u64..9, 0_u64..4, 0_u64..50, 1_u64..9, 0_u8..3), 0..60),
        before_ms in 0_u64..60,
    ) {
        let mut ledger = Ledger::default();
        for (at, (stream, generation, start, len, kind)) in (0..).zip(records) {
            let (name, generation) = (format!("d/s/{stream}"), Generation(generation));
            let span = span(start, start + len);
            let notice = Notice::Close { reason: reason::ROTATED.into(), tail: Tail::Complete };
            match kind {
                0 => {
                    ledger.explain(&name, generation, span, Kind::Close, Some(&notice), at);
                }
                _ => {
                    ledger.accept(&name, generation, span, at);
                }
            }
        }
        ledger.retire(before_ms, 0);
        let text = serde_json::to_string(&ledger).unwrap();
        prop_assert_eq!(&scanned(&text).unwrap(), &ledger);
        // What it takes is the same, whether it grew or was read.
        prop_assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    }

    /// The agent's life as the broker sees it: it sends on from where it is, or crashes and starts
    /// again from any earlier checkpoint. Streams interleave. In the end everything was sent once
    /// at least; the ledger must have let each record through exactly once.
    #[test]
    fn resends_and_restarts_leave_every_record_once(
        lengths in prop::collection::vec(1_u64..50, 1..30),
        restarts in prop::collection::vec((0_usize..30, 0_usize..30), 0..12),
        streams in 1_usize..4,
    ) {
        let tiles = tile(&lengths);
        let mut sent: Vec<usize> = Vec::new();
        let mut reached = 0;
        for (ahead, back) in restarts {
            let until = (reached + ahead).min(tiles.len());
            sent.extend(reached..until);
            reached = until.saturating_sub(back);
        }
        sent.extend(reached..tiles.len());
        let mut ledger = Ledger::default();
        let mut stored = vec![vec![0; tiles.len()]; streams];
        for &i in &sent {
            for (stream, stored) in stored.iter_mut().enumerate() {
                let name = format!("d/s/{stream}");
                match ledger.accept(&name, GENERATION, tiles[i], 1) {
                    Verdict::New => stored[i] += 1,
                    Verdict::Duplicate => {}
                    Verdict::Unaccounted | Verdict::Overlap => prop_assert!(false, "tiles cannot overlap"),
                }
            }
        }
        prop_assert!(stored.iter().flatten().all(|&n| n == 1));
        prop_assert_eq!(ledger.unexplained_gaps(), 0);
        let total: u64 = lengths.iter().sum();
        prop_assert_eq!(ledger.get("d/s/0", GENERATION).unwrap().settled, total);
    }

    /// Losing records leaves exactly their ranges as gaps, in whatever order the others come.
    #[test]
    fn a_lost_span_is_exactly_that_gap(
        lengths in prop::collection::vec(1_u64..50, 2..30),
        lost in prop::collection::hash_set(0_usize..29, 0..6),
        order in any::<u64>(),
    ) {
        let tiles = tile(&lengths);
        let last = tiles.len() - 1;
        let lost = |i: &usize| *i != last && lost.contains(i);
        let mut come: Vec<usize> = (0..tiles.len()).filter(|i| !lost(i)).collect();
        // The seed picks an order: records of one generation may overtake each other after a retry.
        come.sort_by_key(|i| (*i as u64 + 1).wrapping_mul(order | 1));
        let mut ledger = Ledger::default();
        for i in come {
            prop_assert_eq!(ledger.accept("d/s/p", GENERATION, tiles[i], 1), Verdict::New);
        }
        let mut expected = SpanSet::default();
        (0..tiles.len()).filter(lost).for_each(|i| expected.push(tiles[i]));
        prop_assert_eq!(&ledger.get("d/s/p", GENERATION).unwrap().gaps, &expected);
    }

    /// Against the plainest model, a bit per offset: arbitrary spans, tiles or not.
    #[test]
    fn any_spans_agree_with_a_bit_per_offset(
        spans in prop::collection::vec((0_usize..100, 0_usize..30), 1..40),
    ) {
        let mut ledger = Ledger::default();
        let mut model = [false; 130];
        for (start, len) in spans {
            let before = ledger.get("d/s/p", GENERATION).cloned().unwrap_or_default();
            let bits = &mut model[start..start + len];
            let fresh = bits.iter().filter(|come| !**come).count() as u64;
            bits.fill(true);
            let expected = match fresh {
                0 => Verdict::Duplicate,
                n if n == len as u64 => Verdict::New,
                _ => Verdict::Overlap,
            };
            let end = (start + len) as u64;
            let came = ledger.take("d/s/p", GENERATION, span(start as u64, end), 1);
            let opened = (start as u64).saturating_sub(before.settled);
            let beyond = end.saturating_sub(before.settled.max(start as u64));
            let covered = Covered {
                fresh,
                filled: fresh - beyond,
                repeated: len as u64 - fresh,
                opened,
            };
            prop_assert_eq!(came, (expected, covered));
            let state = ledger.get("d/s/p", GENERATION).unwrap();
            let missing = (0_u64..).zip(model).filter(|(at, come)| *at < state.settled && !come).count() as u64;
            prop_assert_eq!(state.gaps.offsets(), missing);
        }
    }
}
