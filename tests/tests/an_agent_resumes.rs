//! Follow, deliver, stop, resume: the shortest whole run of an agent, also for one that was built
//! for ARM and runs under qemu (`make arm`).

use std::fs;
use std::time::Duration;

use headwater_tests::kafka::Kafka;
use headwater_tests::loading::Loading;
use headwater_tests::oracle::{wait_until, wait_until_complete};
use headwater_tests::s3::S3;
use headwater_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn follow_deliver_resume() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "resume", 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let value = folder.path().join("temp");
    fs::write(&value, "48312\n").expect("a sensor's file");
    let mut writer = Writer::new(folder.path().join("app.log"), "w", 5);
    writer.write(500);
    let sensor = format!(
        "[[sensor]]\nid = \"cpu\"\npaths = [\"{}\"]\ninterval = \"200ms\"\nscale = 0.001\nunit = \"C\"\n",
        value.display()
    );
    let agent = loading
        .agent(&format!("{}/app.log", folder.path().display()), &sensor)
        .start();
    let loader = loading.start();
    wait_until_complete(
        &[&writer],
        &s3,
        &loading.bucket,
        "data/source=app/",
        PATIENCE,
    )
    .assert_exact();
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    writer.write(200);
    writer.rotate();
    writer.write(300);
    let agent = agent.restart();
    wait_until_complete(
        &[&writer],
        &s3,
        &loading.bucket,
        "data/source=app/",
        PATIENCE,
    )
    .assert_exact();
    let samples = || {
        let objects = s3.objects(&loading.bucket, "data/source=cpu/");
        let texts = objects.iter().map(|(key, bytes)| {
            String::from_utf8(headwater_tests::oracle::decompress(key, bytes))
                .expect("NDJSON is text")
        });
        texts.collect::<String>()
    };
    wait_until("samples are stored", PATIENCE, || {
        samples().lines().count() > 3
    });
    assert!(
        samples().contains(r#""value":48.312,"unit":"C""#),
        "{}",
        samples()
    );
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    wait_until("the ledger is complete", PATIENCE, || {
        let audit = loading.audit();
        audit.code == Some(0) && audit.stdout.contains("closed (stopped)")
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.assert_proven();
}
