use std::sync::Arc;

use anyhow::ensure;
use base64::Engine;

use super::letter::DeadLetter;
use super::replay::{Replayed, Replaying, run, store_all};
use super::*;
use crate::aggregate::WindowRow;
use crate::fetched::{Entry, Identity};
use crate::pipeline::{Made, Record, Scratch, To};
use crate::store::folder::Folder;

#[test]
fn a_letter_knows_whose_record_it_was() {
    let letter = |more: &str| -> DeadLetter {
        let text = format!(
            r#"{{"reason":"r","topic":"t","partition":1,"offset":7,"batch_ms":9,{more}"value_base64":null}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let ours = letter(r#""stream":"pi-7/app//x","span":"00000000000000ab:5+3","#).entry();
    let Identity::Tagged { stream, span, .. } = &ours.identity else {
        panic!("{ours:?}");
    };
    assert_eq!((&**stream, span.start(), span.len()), ("pi-7/app//x", 5, 3));
    assert_eq!((ours.offset, ours.time_ms), (7, 9));
    assert_eq!(letter("").entry().identity, Identity::Foreign);
}

fn plan(path: &str) -> Plan {
    plan_of(&format!(
        "step='aggregate'\nwindow='1m'\nby=['a']\npath='{path}'\ncompute=[{{function='count'}}]\n"
    ))
}

fn plan_of(step: &str) -> Plan {
    let text = format!(
        "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='s3://b/p'\npath='all'\n\
         compression='none'\n[[transform]]\n{step}"
    );
    let file = headwater_msk::config_file::parse(&text).unwrap();
    Plan::new(&file, crate::config::file::Tables::new(), None).unwrap()
}

#[tokio::test]
async fn a_windows_row_comes_back_as_itself_and_counts_as_no_record() {
    // Six times 128 bytes are no path.
    let broken = plan("{a}/{a}/{a}/{a}/{a}/{a}");
    let row = format!(
        r#"{{"time":"2026-11-24T08:15:00Z","window_end":"2026-11-24T08:16:00Z","a":"{}","count":7}}"#,
        "x".repeat(128)
    );
    let window = WindowRow {
        slot: Some(0),
        path: None,
        row: serde_json::from_str(&row).unwrap(),
    };
    let entry = Entry::foreign(9, 1000);
    let at = Record {
        topic: "logs",
        partition: 0,
        entry: &entry,
        value: None,
    };
    let mut scratch = Scratch::default();
    let made = broken.pipeline.make_window(&window, at, 1000, &mut scratch);
    let Made::Row {
        line,
        to: To::DeadLetters(_),
    } = made
    else {
        panic!("{made:?}");
    };
    let letters = [line, b"\n"].concat();
    let name = "_dead_letters/logs+0+00000000000000000000-00000000000000000010+1of1.ndjson";
    let name = ObjectName::parse(name).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = Store::Folder(Folder::new(folder.path().to_owned()));
    let pipeline = Arc::clone(&plan("sums").pipeline);
    let replaying = Replaying::new(pipeline, name, Replayed::default(), Arc::default());
    let (objects, sum) = replaying.all("x.ndjson", &letters[..]).unwrap();
    store_all(&objects, &to).await.unwrap();
    assert_eq!((sum.rows, sum.aggregated, sum.again), (1, 0, 0));
    let key = "sums/logs+0+00000000000000000000-00000000000000000010+1of1.ndjson";
    let stored = to.get(key).await.unwrap().expect("it is stored");
    assert_eq!(stored, format!("{row}\n"));
}

#[test]
fn one_letter_is_in_memory_at_a_time() {
    let line = |offset: u64| {
        format!(
            "{{\"reason\":\"r at line 1\",\"topic\":\"t\",\"partition\":1,\"offset\":{offset},\"batch_ms\":9,\"value_base64\":null}}\n"
        )
    };
    /// Gives a line at a time, and knows how many it gave.
    struct Lines<'a>(&'a std::cell::Cell<u64>, Vec<u8>);
    impl Read for Lines<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.set(self.0.get() + 1);
            buffer[..self.1.len()].copy_from_slice(&self.1);
            Ok(self.1.len())
        }
    }
    // An object without an end: whoever wants all of it before the first letter never comes back.
    let given = std::cell::Cell::new(0);
    let stopped = each_letter("x.ndjson", Lines(&given, line(7).into_bytes()), |letter| {
        assert_eq!(letter.offset, 7);
        ensure!(given.get() < 5, "seen enough");
        Ok(())
    });
    assert_eq!(stopped.unwrap_err().to_string(), "seen enough");
    let text = line(3) + &line(4);
    for (key, bytes) in [
        ("a.ndjson", text.clone().into_bytes()),
        (
            "a.ndjson.zst",
            zstd::encode_all(text.as_bytes(), 1).unwrap(),
        ),
    ] {
        let counted = count(key, &bytes[..], Reasons::new()).unwrap();
        let reason = &counted[&("r".to_owned(), None)];
        assert_eq!((reason.count, reason.first_offset), (2, 3));
    }
    assert!(parse("x.ndjson", b"{}\n").is_err());
}

#[tokio::test]
async fn letters_are_found_by_when_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::Folder(Folder::new(folder.path().to_owned()));
    let key = "_dead_letters/t+0+00000000000000000000-00000000000000000010+1of1.ndjson";
    let content = crate::store::plain_content(b"");
    let put = store.put_new(key, bytes::Bytes::new(), content).await;
    put.unwrap();
    let mut written_ms = 0;
    let listed = store.list("", |listed| written_ms = listed.modified_ms);
    listed.await.unwrap();
    for (since_ms, found) in [(0, 1), (written_ms, 1), (written_ms + 1, 0)] {
        let keys = keys(&store, "t", since_ms).await.unwrap();
        assert_eq!(keys.len(), found, "{since_ms}");
    }
}

/// Five of ten letters come back by one configuration, and all of them by another: as `+2of2` beside what failed
/// again, and as `+1of1`.
#[tokio::test]
async fn a_place_is_of_one_configuration() {
    let store = || {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::Folder(Folder::new(folder.path().to_owned()));
        (folder, store)
    };
    let ((_live, live), (_first, first)) = (store(), store());
    let letters: String = (0..10)
        .map(|i| {
            let message = if i % 2 == 0 { "{}" } else { "prose" };
            let value = format!(r#"{{"message":"{message}"}}"#);
            let value = base64::engine::general_purpose::STANDARD.encode(value);
            let text = r#""reason":"r","topic":"logs","partition":0"#;
            format!("{{{text},\"offset\":{i},\"batch_ms\":9,\"value_base64\":\"{value}\"}}\n")
        })
        .collect();
    let key = "_dead_letters/logs+0+00000000000000000000-00000000000000000010+1of1.ndjson";
    let content = crate::store::plain_content(letters.as_bytes());
    live.put_new(key, letters.into(), content).await.unwrap();
    let by = |on_error: &str| {
        plan_of(&format!(
            "step='parse'\nfield='message'\nformat='json'\non_error='{on_error}'\n"
        ))
    };
    let (half, all) = (by("dead_letter"), by("mark"));
    for _ in 0..2 {
        let sum = run(&half, &live, &first, 0).await.unwrap();
        assert_eq!((sum.rows, sum.again), (5, 5));
    }
    let refused = run(&all, &live, &first, 0).await.unwrap_err().to_string();
    assert!(refused.contains("another configuration"), "{refused}");
    // A place of its own has all of them; what failed again is in the first, and comes back alone.
    for (from, rows) in [(&live, 10), (&first, 5)] {
        let (_folder, to) = store();
        let sum = run(&all, from, &to, 0).await.unwrap();
        assert_eq!((sum.rows, sum.again), (rows, 0));
    }
    // Where nobody says what made the rows that are there.
    let (_folder, unknown) = store();
    let row = "all/logs+0+00000000000000000000-00000000000000000010+2of2.ndjson";
    let put = unknown.put_new(row, bytes::Bytes::new(), crate::store::plain_content(b""));
    put.await.unwrap();
    let refused = run(&all, &live, &unknown, 0).await.unwrap_err().to_string();
    assert!(
        refused.contains("give another place, that is empty"),
        "{refused}"
    );
    let (_folder, to) = store();
    let sum = run(&all, &live, &to, u64::MAX).await.unwrap();
    assert_eq!(sum.rows, 0, "they are older");
}

#[test]
fn a_replay_goes_elsewhere() {
    assert!(apart("s3://b/logs", "s3://b/again").is_ok());
    assert!(apart("s3://b/logs", "s3://b/logs2").is_ok());
    for to in ["s3://b/logs", "s3://b/logs/again/", "s3://b"] {
        assert!(apart("s3://b/logs", to).is_err(), "{to}");
    }
}
