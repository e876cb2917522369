//! What the loader makes of records: steps, paths, codecs, and a local folder as the output.

use std::fs;
use std::path::Path;
use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{Report, decompress, stored_in_folder, wait_until};
use headwater_tests::process::Loader;
use headwater_tests::s3::S3;

const PATIENCE: Duration = Duration::from_secs(60);

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![path.display().to_string()],
        })
        .collect()
}

fn config(loading: &Loading, out: &Path, table: &Path) -> String {
    format!(
        r#"
        [kafka]
        brokers = ["{}"]
        topic = "{}"
        [kafka.security]
        allow_plaintext = true
        [group]
        id = "{}-folder"
        session_timeout = "2s"
        [output]
        url = "file://{}"
        path = "site={{site}}/hour={{time:%Y-%m-%dT%H}}"
        compression = "gzip"
        [flush]
        age = "300ms"
        records = 40
        [[transform]]
        step = "filter"
        field = "message"
        not_in = ["noise"]
        [[transform]]
        step = "lookup"
        table = "{}"
        field = "device"
        [[transform]]
        step = "rename"
        from = "device"
        to = "thing"
        [[transform]]
        step = "set"
        field = "label"
        value = "{{thing}} in {{site}}"
        "#,
        loading.kafka.bootstrap(),
        loading.topic,
        loading.topic,
        out.display(),
        table.display()
    )
}

fn check_rows(out: &Path) {
    let files = files(out);
    for site in [
        "site=Ulm/hour=2026-11-24T",
        "site=Bonn/",
        "site=__HIVE_DEFAULT_PARTITION__/",
    ] {
        assert!(
            files.iter().any(|file| file.contains(site)),
            "{site}: {files:?}"
        );
    }
    let ulm = files
        .iter()
        .find(|file| file.contains("site=Ulm"))
        .expect("seen above");
    assert!(ulm.ends_with(".ndjson.gz"), "{ulm}");
    let text = String::from_utf8(decompress(ulm, &fs::read(ulm).expect("a file"))).expect("NDJSON");
    let row: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a row")).expect("JSON");
    assert_eq!(
        (row["label"].as_str(), row["thing"].as_str()),
        (Some("pi-1 in Ulm"), Some("pi-1"))
    );
    assert!(row.get("device").is_none());
}

#[test]
fn steps_lookup_paths_and_gzip_into_a_folder_with_a_kill_in_the_middle() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "steps", 2);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    let table = folder.path().join("sites.csv");
    fs::write(&table, "device,site\npi-1,Ulm\npi-2,Bonn\n").expect("a table");
    let config = config(&loading, &out, &table);
    let mut written = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    for (n, id) in ["pi-1", "pi-2", "pi-3"].into_iter().enumerate() {
        let mut device = Device::new(id, "/var/log/app", n as u64);
        for i in 0..100 {
            let line = format!("{id} line {i}");
            records.push(device.line(&line));
            records.push(device.line("noise"));
            written.push(line);
        }
    }
    kafka.produce(&loading.topic, records);
    Loader::with(&config)
        .crash_at("object-stored:2")
        .start()
        .wait(PATIENCE);
    let loader = Loader::start(&config);
    wait_until("all rows are in the folder", PATIENCE, || {
        stored_in_folder(&out).len() >= written.len()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    Report::compare(written, &stored_in_folder(&out)).assert_exact();
    check_rows(&out);
    let mut setup = Loader::with(&config);
    for proof in ["audit", "verify"] {
        let proven = setup.run(proof, &[]);
        assert_eq!(
            proven.code,
            Some(0),
            "{proof}: {}{}",
            proven.stdout,
            proven.stderr
        );
        let json = setup.run(proof, &["--json"]);
        assert!(
            serde_json::from_str::<serde_json::Value>(&json.stdout).is_ok(),
            "{}",
            json.stdout
        );
    }
}

/// What a disk refuses it refuses for ever: the partition would stand still.
#[test]
fn a_path_that_no_disk_takes_is_a_dead_letter_and_holds_nothing_up() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "long", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = folder.path().join("sites.csv");
    fs::write(&table, "device,site\npi-1,Ulm\n").expect("a table");
    let out = folder.path().join("out");
    let path = "path = \"site={site}/hour={time:%Y-%m-%dT%H}\"";
    let config = config(&loading, &out, &table);
    let config = config.replace(path, "path = \"{long}{message}/x\"");
    assert!(!config.contains(path));
    let mut device = Device::new("pi-1", "/var/log/app", 1);
    let long = "l".repeat(128);
    let mut record = |message: &str| {
        let value = format!(r#"{{"device":"pi-1","long":"{long}","message":"{message}"}}"#);
        device.reading(value.into_bytes())
    };
    let (fits, does_not) = ("f".repeat(127), "d".repeat(128));
    let records = [record("first"), record(&does_not), record(&fits)];
    kafka.produce(&loading.topic, records);
    let loader = Loader::start(&config);
    wait_until("the last one is in the folder", PATIENCE, || {
        files(&out).iter().any(|file| file.contains(&fits))
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let list = Loader::with(&config).run("dlq list", &[]);
    let said = "1 x a part of its path is longer than 255 bytes;";
    assert!(list.stdout.starts_with(said), "{}", list.stdout);
    let stored = files(&out);
    let rows = stored.iter().filter(|file| file.contains(&long)).count();
    assert_eq!(rows, 2, "{stored:?}");
}

/// Whoever wants to see what came tells the loader, and need not wait for `flush.age`, nor stop it.
#[test]
fn what_is_open_is_written_when_it_is_told_to() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "flush", 2);
    let loader = loading.loader("[flush]\nage = \"1h\"\n").start();
    wait_until("it listens to signals", PATIENCE, || {
        loader.stderr().contains("joining the group")
    });
    let mut devices = ["pi-1", "pi-2", "pi-3"].map(|id| Device::new(id, "/var/log/app", 1));
    let mut written = Vec::new();
    for round in 0..2 {
        for device in &mut devices {
            let line = format!("{round} at {}", device.offset());
            kafka.produce(&loading.topic, [device.line(&line)]);
            written.push(line);
        }
        // Records that it had not taken in when it was told are in the next batch.
        wait_until("it wrote what it was told to", PATIENCE, || {
            loader.sigusr1();
            loading.stored().len() >= written.len()
        });
    }
    assert!(loader.is_running());
    assert!(
        loader.stderr().contains("told to flush"),
        "{}",
        loader.stderr()
    );
    loading.report(written).assert_exact();
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}

#[test]
fn records_of_every_codec_are_rows() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let codecs = ["gzip", "snappy", "lz4", "zstd", "uncompressed"];
    // The broker writes each batch in the topic's codec, whatever came.
    let running = codecs.map(|codec| {
        let settings = [("compression.type", codec)];
        let loading = Loading::with_topic(kafka, &s3, codec, 1, &settings);
        let record = |n: u32| Record {
            value: format!(r#"{{"n":{n},"codec":"{codec}"}}"#).into_bytes(),
            ..Record::default()
        };
        kafka.produce(&loading.topic, (0..200).map(record));
        let loader = loading.start();
        (codec, loading, loader)
    });
    for (codec, loading, loader) in running {
        let rows = || -> usize {
            let objects = s3.objects(&loading.bucket, "data/");
            let texts = (objects.iter()).map(|(key, bytes)| decompress(key, bytes));
            texts
                .map(|text| text.iter().filter(|byte| **byte == b'\n').count())
                .sum()
        };
        wait_until(&format!("what {codec} holds is stored"), PATIENCE, || {
            rows() >= 200
        });
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
        assert_eq!(rows(), 200, "{codec}");
    }
}

/// A topic may take values of any size: above what the loader asks for at a time, and above its hand-over.
#[test]
fn a_value_of_ten_megabytes_is_a_row() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let settings = [("max.message.bytes", "12000000")];
    let loading = Loading::with_topic(kafka, &s3, "large", 1, &settings);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let mut written = Vec::new();
    for n in 0..3 {
        let large = format!("{n}{}", "0123456789abcdef".repeat(10_000_000 / 16));
        for line in [format!("before {n}"), large, format!("behind {n}")] {
            kafka.produce(&loading.topic, [device.line(&line)]);
            written.push(line);
        }
    }
    let loader = loading.start();
    wait_until("all is stored", PATIENCE, || {
        loading.stored().len() >= written.len()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}
