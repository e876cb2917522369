use super::report::day;
use super::*;
use crate::config::ConfigFile;
use crate::config::file::Tables;
use crate::fetched::Identity;

fn plan_of(more: &str) -> Plan {
    let text = format!(
        "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\n{more}"
    );
    let file: ConfigFile = headwater_msk::config_file::parse(&text).unwrap();
    Plan::new(&file, Tables::new(), None).unwrap()
}

/// Records of one partition, each with its time in seconds.
fn run(plan: &Plan, records: &[(u64, String)]) -> (Seen, Rejects) {
    let mut rejects = Rejects::new();
    let mut run = DryRun::new(plan, 3, 0).unwrap();
    let mut fetched = Fetched::default();
    for (offset, (second, value)) in (0..).zip(records) {
        let value = Some(value.as_bytes());
        fetched.push(offset, second * 1000, value, Identity::Foreign);
    }
    for at in 0..fetched.entries.len() {
        run.take(&fetched, at, &mut rejects).unwrap();
    }
    (run.end(&mut rejects).unwrap(), rejects)
}

/// A record each second for `seconds`.
fn steady(seconds: u64) -> Vec<(u64, String)> {
    (0..seconds)
        .map(|n| (n, format!("{{\"n\":{n},\"source\":\"s{}\"}}", n % 2)))
        .collect()
}

#[test]
fn batches_close_by_the_records_own_time() {
    let plan = plan_of("path='{source}'\n[flush]\nage='1m'\n");
    let (seen, _) = run(&plan, &steady(601));
    // Ten minutes: the tenth batch closes when the clock reaches the 601st record.
    assert_eq!((seen.whole.batches, seen.whole.objects), (10, 20));
    assert_eq!((seen.cut.batches, seen.cut.objects), (1, 1));
    let day = day(&seen, &plan.flush, is_by_record(&plan)).unwrap();
    assert_eq!(day.records, 86_400.0);
    assert_eq!(
        (day.batches, day.objects, day.puts),
        (1440.0, 2880.0, 4320.0)
    );
}

#[test]
fn a_sample_shorter_than_a_batch_is_reckoned_up_to_its_first_bound() {
    let plan = plan_of("path='{source}'\n[flush]\nage='1m'\n");
    let (seen, _) = run(&plan, &steady(21));
    assert_eq!(seen.whole.batches, 0);
    let by_age = day(&seen, &plan.flush, is_by_record(&plan)).unwrap();
    assert_eq!((by_age.batches, by_age.objects), (1440.0, 2880.0));
    let plan = plan_of("path='{source}'\n[flush]\nage='1h'\nrecords=30\n");
    let (seen, _) = run(&plan, &steady(21));
    let by_records = day(&seen, &plan.flush, is_by_record(&plan)).unwrap();
    assert_eq!(by_records.batches, 2880.0);
    let (seen, _) = run(&plan, &steady(1));
    assert_eq!(day(&seen, &plan.flush, is_by_record(&plan)), None);
}

#[test]
fn rejects_are_told_by_step_and_reason_with_an_example_and_the_guard_is_seen() {
    let step = "path='{n}'\n[flush]\nobjects=3\n[[transform]]\nstep='timestamp'\nfield='at'\nformats=['rfc3339']\non_error='dead_letter'\n";
    let plan = plan_of(step);
    let mut records: Vec<_> = (0..7)
        .map(|n| (n, format!("{{\"n\":{n},\"at\":\"2026-01-01T00:00:00Z\"}}")))
        .collect();
    records.push((7, "{\"n\":1,\"at\":\"soon\"}".to_owned()));
    records.push((8, "{\"n\":2,\"at\":\"later\"}".to_owned()));
    records.push((9, "no JSON".to_owned()));
    let (seen, rejects) = run(&plan, &records);
    assert!(seen.whole.guarded >= 2, "{seen:?}");
    assert_eq!(seen.whole.largest_objects, 3);
    let told: Vec<_> = rejects
        .values()
        .map(|r| {
            (
                r.step.as_deref(),
                r.count,
                r.example_offset,
                r.example.as_str(),
            )
        })
        .collect();
    assert!(told.contains(&(None, 1, 9, "no JSON")), "{told:?}");
    let steps = rejects
        .values()
        .filter(|r| r.step.as_deref() == Some("1 (timestamp)"));
    assert_eq!(steps.map(|r| r.count).sum::<u64>(), 2, "{told:?}");
    let report = Report::new(
        &plan,
        Prices {
            put: 0.005,
            storage: 0.023,
            write: 0.625,
        },
        &BTreeMap::from([(3, seen)]),
        rejects,
    );
    let text = text(&report);
    assert!(text.contains("WARNING: the guard closed"), "{text}");
    assert!(
        text.contains("such as partition 3, offset 9: no JSON"),
        "{text}"
    );
}

#[test]
fn an_object_for_each_record_is_a_put_for_each_record() {
    let by_record = |flush: &str| plan_of(&format!("path=''\nlayout='record'\n[flush]\n{flush}\n"));
    // A batch that is cut off goes on, and its records with it. Thirty records take 29 seconds.
    for (flush, batches) in [
        ("age='1m'", 1440.0),
        ("age='1h'\nobjects=30", 86_400.0 / 29.0),
    ] {
        let plan = by_record(flush);
        let (seen, _) = run(&plan, &steady(30));
        assert_eq!(seen.whole.plus(&seen.cut).objects, 30);
        let day = day(&seen, &plan.flush, is_by_record(&plan)).unwrap();
        assert_eq!(day.objects.round(), 86_400.0, "{flush}");
        let snapshots = day.puts - day.objects;
        assert!((snapshots - batches).abs() < 1.0, "{flush}: {snapshots}");
    }
    let (seen, _) = run(&by_record("objects=10"), &steady(41));
    assert_eq!((seen.whole.batches, seen.whole.guarded), (4, 0));
}

#[test]
fn items_are_told_in_write_request_units() {
    let table = |name: &str, more: &str| {
        format!(
            "[[output.dynamodb.table]]\nname='{name}'\n{more}\npartition_key={{name='pk',value='{{source}}'}}\n"
        )
    };
    let tables = table("latest", "mode='latest'")
        + &table("all", "mode='append'\nsort_key={name='at',value='{n}'}");
    let plan = plan_of(&format!("path=''\n{tables}[flush]\nage='1m'\n"));
    let mut records = steady(601);
    for (_, value) in &mut records {
        // More than a KiB, and less than two.
        *value = value.replace('}', &format!(",\"text\":\"{}\"}}", "x".repeat(1100)));
    }
    let (seen, _) = run(&plan, &records);
    assert_eq!((seen.whole.latest.items, seen.whole.latest.units), (20, 40));
    assert_eq!(
        (seen.whole.append.items, seen.whole.append.units),
        (600, 1200)
    );
    let by_record = is_by_record(&plan);
    let told = day(&seen, &plan.flush, by_record).unwrap();
    assert_eq!(told.items.round(), 2.0 * 1440.0 + 86_400.0);
    assert_eq!(told.write_units.round(), 2.0 * told.items.round());
    let prices = Prices {
        put: 0.0,
        storage: 0.0,
        write: 1000.0,
    };
    let report = Report::new(&plan, prices, &BTreeMap::from([(3, seen)]), Rejects::new());
    let text = text(&report);
    // 178,560 units at 1000 dollars a million.
    assert!(
        text.contains("178560 write request units $178.56 a day"),
        "{text}"
    );
}
