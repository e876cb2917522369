//! What is asked of S3 beside the bytes, large objects in parts, stores that cannot do it all, and what
//! somebody else removes there meanwhile.

use std::time::Duration;

use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{CLASSIC, KIP_848, Loading, metric, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::s3::{Fault, Kind, Op, S3};

const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of one device, numbered, each padded to `bytes`.
fn lines(n: usize, bytes: usize) -> (Vec<Record>, Vec<String>) {
    let mut device = Device::new("pi-1", "/var/log/app", 7);
    let lines: Vec<String> = (0..n)
        .map(|i| format!("line {i:06} {}", "x".repeat(bytes)))
        .collect();
    let records = lines.iter().map(|line| device.line(line)).collect();
    (records, lines)
}

const OWNER: &str = "123456789012";

/// A bucket that somebody else took the name of is not written to, nor read.
#[track_caller]
fn assert_each_request_names_the_owner(s3: &S3, loading: &Loading) {
    let requests = s3.requests();
    let ours = requests
        .iter()
        .filter(|request| request.bucket == loading.bucket && request.op != Op::Bucket);
    let without: Vec<_> = ours
        .filter(|request| request.owner.as_deref() != Some(OWNER))
        .collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn encryption_class_and_tags_are_as_configured() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let kms = "\"kms\"\nkms_key = \"alias/logs\"";
    for (encryption, expected) in [
        (kms, ("aws:kms", Some("alias/logs"))),
        ("\"s3\"", ("AES256", None)),
    ] {
        for in_parts in [false, true] {
            s3.forget_requests();
            encrypted(kafka, &s3, (encryption, in_parts), expected);
            assert_eq!(s3.count(Op::CompleteMultipart), usize::from(in_parts));
        }
    }
}

fn encrypted(
    kafka: &'static Kafka,
    s3: &S3,
    (encryption, in_parts): (&str, bool),
    (expected, key_id): (&str, Option<&str>),
) {
    let loading = Loading::new(kafka, s3, "options", 1);
    let (n, bytes, flush) = match in_parts {
        false => (50, 10, "age = \"200ms\""),
        true => (70, 80_000, "age = \"60s\"\nrecords = 70"),
    };
    let (records, written) = lines(n, bytes);
    kafka.produce(&loading.topic, records);
    let config = format!(
        "path = \"\"\ncompression = \"none\"\n[output.s3]\nmultipart_above = \"5MiB\"\nencryption = {encryption}\n\
         storage_class = \"STANDARD_IA\"\nexpected_bucket_owner = \"{OWNER}\"\n\
         [output.s3.tags]\nteam = \"meters & more\"\n[flush]\n{flush}\n"
    );
    let config = config.as_str();
    let loader = loading.loader(config).start();
    wait_until("all is stored", PATIENCE, || {
        loading.report(written.clone()).lost.is_empty()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    for (key, object) in s3.described(&loading.bucket, "data/") {
        let about = &object.attributes;
        assert_eq!(about.encryption.as_deref(), Some(expected), "{key}");
        assert_eq!(about.kms_key.as_deref(), key_id, "{key}");
        // State is read again: it is neither put away nor tagged.
        let (class, tags) = match key.contains("_headwater/") {
            true => (None, None),
            false => (Some("STANDARD_IA"), Some("team=meters%20%26%20more")),
        };
        assert_eq!(about.storage_class.as_deref(), class, "{key}");
        assert_eq!(about.tagging.as_deref(), tags, "{key}");
    }
    assert_each_request_names_the_owner(s3, &loading);
    loading.report(written).assert_exact();
}

#[test]
fn large_objects_go_in_parts_and_a_crash_leaves_no_upload_behind() {
    large_objects(CLASSIC);
}

#[test]
fn large_objects_go_in_parts_and_a_crash_leaves_no_upload_behind_when_the_broker_assigns() {
    large_objects(KIP_848);
}

fn large_objects(group: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "parts", 1).of(group);
    let config = "path = \"\"\ncompression = \"none\"\n[output.s3]\nmultipart_above = \"5MiB\"\n\
                  expected_bucket_owner = \"123456789012\"\n[flush]\nage = \"60s\"\nrecords = 220\nbytes = \"32MiB\"\n";
    let (records, written) = lines(440, 80_000);
    s3.fault(Fault::on(Op::UploadPart, Kind::Timeout));
    kafka.produce(&loading.topic, records);
    let first = loading.loader(config).start();
    wait_until("a part is on its way", PATIENCE, || {
        s3.count(Op::UploadPart) > 0
    });
    first.kill9();
    assert_eq!(s3.unfinished_uploads(&loading.bucket).len(), 1);
    s3.clear_faults();
    // The end of an upload refused, once with a status that says it was not, and carried out without an answer.
    let kinds = [
        Kind::Conflict409,
        Kind::HangUpAfterCommit,
        Kind::Http500,
        Kind::ErrorIn200,
    ];
    for kind in kinds {
        s3.fault(Fault::on(Op::CompleteMultipart, kind).times(1));
    }
    let second = loading.loader(config).start();
    wait_until("all is stored", PATIENCE, || {
        loading.report(written.clone()).lost.is_empty()
    });
    assert_eq!(second.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_eq!(s3.unfinished_uploads(&loading.bucket), Vec::<String>::new());
    assert_eq!(s3.faults_met(), kinds.len() + 1);
    assert_each_request_names_the_owner(&s3, &loading);
    loading.report(written).assert_exact();
    loading.assert_proven();
}

/// Another one, a zombie, ended the same object while this one's parts were on their way: with the same content it
/// is stored, with other content nothing of it is touched.
#[test]
fn an_upload_whose_name_was_taken_meanwhile_is_given_up() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let before = Loading::new(kafka, &s3, "first", 1);
    let listen = free_address();
    let config = format!(
        "path = \"\"\ncompression = \"none\"\n[output.s3]\nmultipart_above = \"5MiB\"\n\
         [flush]\nage = \"60s\"\nrecords = 70\n[http]\nlisten = \"{listen}\"\n"
    );
    let (records, written) = lines(70, 80_000);
    kafka.produce(&before.topic, records);
    let loader = before.loader(&config).start();
    wait_until("all is stored", PATIENCE, || {
        before.report(written.clone()).lost.is_empty()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let keys = s3.keys(&before.bucket, "data/").into_iter();
    let keys: Vec<String> = keys.filter(|key| !key.contains("_headwater/")).collect();
    let [key] = &keys[..] else {
        panic!("{keys:?}");
    };
    for is_same in [true, false] {
        let mut loading = Loading::new(kafka, &s3, "second", 1);
        loading.topic.clone_from(&before.topic);
        s3.forget_requests();
        let slow = Kind::Delay(Duration::from_secs(3));
        s3.fault(Fault::on(Op::UploadPart, slow).times(1));
        let loader = loading.loader(&config).start();
        wait_until("a part is on its way", PATIENCE, || {
            s3.count(Op::UploadPart) > 0
        });
        match is_same {
            true => s3.copy(&before.bucket, &loading.bucket, key),
            false => s3.put(&loading.bucket, key, "another's"),
        }
        let is_over = || match is_same {
            true => {
                let committed = kafka.committed(loading.group(), &loading.topic);
                committed.iter().any(|one| one.offset == Some(70))
            }
            false => page(&listen, "/readyz")
                .is_some_and(|(status, said)| status == 503 && said.contains("something else")),
        };
        wait_until("it is taken for stored, or told of", PATIENCE, is_over);
        let met = s3.requests().into_iter();
        let ended = met.filter(|one| one.op == Op::CompleteMultipart);
        let ended: Vec<_> = ended.map(|one| one.status).collect();
        assert_eq!(ended, [Some(412)]);
        assert_eq!(s3.unfinished_uploads(&loading.bucket), Vec::<String>::new());
        if is_same {
            // What S3 says of the name is the answer: nothing is sent again.
            let retries = metric(&listen, "headwater_loader_output_retries_total");
            assert_eq!(retries, Some(0));
            assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
            loading.report(written.clone()).assert_exact();
            loading.assert_proven();
        } else {
            loader.kill9();
            assert_eq!(&s3.objects(&loading.bucket, key)[0].1[..], b"another's");
        }
    }
}

/// A lifecycle rule took the upload while its parts were on their way: the object is begun anew.
#[test]
fn an_upload_that_is_gone_in_the_middle_is_begun_anew() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "gone", 1);
    let config = "path = \"\"\ncompression = \"none\"\n[output.s3]\nmultipart_above = \"5MiB\"\n\
                  [flush]\nage = \"60s\"\nrecords = 70\n";
    let (records, written) = lines(70, 80_000);
    let slow = Kind::Delay(Duration::from_secs(3));
    s3.fault(Fault::on(Op::UploadPart, slow).times(1));
    kafka.produce(&loading.topic, records);
    let loader = loading.loader(config).start();
    wait_until("a part is on its way", PATIENCE, || {
        s3.count(Op::UploadPart) > 0
    });
    s3.lose_uploads(&loading.bucket);
    wait_until("all is stored", PATIENCE, || {
        loading.report(written.clone()).lost.is_empty()
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    let met = s3.requests().into_iter();
    let mut met = met.filter(|one| one.op == Op::UploadPart && one.status == Some(404));
    assert!(met.next().is_some(), "the upload was there");
    assert_eq!(s3.count(Op::CreateMultipart), 2);
    assert_eq!(s3.unfinished_uploads(&loading.bucket), Vec::<String>::new());
    loading.report(written).assert_exact();
    loading.assert_proven();
}

/// Somebody deleted the bucket while it was loaded into, and made it anew: the loader waits, says why, and goes on.
/// What lay in it is gone; what came since is stored once, also by a loader that is started behind that.
#[test]
fn a_bucket_that_is_deleted_and_made_anew_is_waited_for() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "bucket", 1);
    let listen = free_address();
    let config = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let (records, lines) = lines(90, 10);
    let mut records = records.into_iter();
    let mut give = || {
        let some: Vec<Record> = records.by_ref().take(30).collect();
        kafka.produce(&loading.topic, some);
    };
    let stored = |what: &str, lines: &[String]| {
        wait_until(what, PATIENCE, || {
            loading.report(lines.iter().cloned()).lost.is_empty()
        });
    };
    give();
    let loader = loading.loader(&config).start();
    stored("the first are stored", &lines[..30]);
    s3.lose_bucket(&loading.bucket);
    give();
    wait_until("it says what is wrong", PATIENCE, || {
        page(&listen, "/readyz").is_some_and(|(status, said)| {
            status == 503 && said.contains("the bucket does not exist")
        })
    });
    s3.bucket(&loading.bucket);
    stored("what waited is stored", &lines[30..60]);
    // Before, the group names a state that went with the bucket.
    wait_until("its batch is complete", PATIENCE, || {
        let committed = kafka.committed(loading.group(), &loading.topic);
        let offsets = committed.iter().filter_map(|one| one.offset);
        offsets.sum::<i64>() == 60
    });
    loader.kill9();
    give();
    let loader = loader.restart();
    stored("what came behind it is stored", &lines[30..]);
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(lines[30..].iter().cloned()).assert_exact();
    assert_eq!(loading.audit().code, Some(0), "all of it came");
    // What went with the bucket is missing, and that is said.
    let verify = loading.verify();
    let told = "hole: [0, 30) is in no object: the oldest are gone";
    assert!(verify.stdout.contains(told), "{}", verify.stdout);
    assert_eq!(verify.code, Some(1), "{}", verify.stdout);
}

#[test]
fn a_store_without_conditional_writes_gets_each_object_once() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "plain", 1);
    let config =
        "[output.s3]\nconditional_writes = false\n[flush]\nage = \"200ms\"\nrecords = 40\n";
    let (records, written) = lines(400, 10);
    kafka.produce(&loading.topic, records);
    for point in ["object-stored", "batch-stored:2", "intent-committed:3"] {
        loading
            .loader(config)
            .crash_at(point)
            .start()
            .wait(PATIENCE);
    }
    let last = loading.loader(config).start();
    wait_until("all is stored", PATIENCE, || {
        loading.report(written.clone()).lost.is_empty()
    });
    assert_eq!(last.sigterm_and_wait(PATIENCE).code(), Some(0));
    let puts = s3.count_by_key(Op::Put, &loading.bucket);
    let twice = puts
        .iter()
        .filter(|(key, n)| !key.contains("_headwater/") && **n > 1);
    assert_eq!(twice.count(), 0, "{puts:?}");
    loading.report(written).assert_exact();
    loading.assert_proven();
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_only_so_long() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "silent", 1);
    let config = "[output.s3]\ntimeout = \"500ms\"\n[flush]\nage = \"200ms\"\n";
    let loader = loading.loader(config).start();
    let (records, written) = lines(90, 10);
    let mut records = records.into_iter();
    for (round, kind) in [Kind::TimeoutAfterCommit, Kind::Timeout, Kind::Denied]
        .into_iter()
        .enumerate()
    {
        s3.fault(Fault::on(Op::Put, kind).times(2));
        kafka.produce(&loading.topic, records.by_ref().take(30));
        let so_far = &written[..30 * (round + 1)];
        wait_until("all is stored", PATIENCE, || {
            loading.report(so_far.to_vec()).lost.is_empty()
        });
    }
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    loading.report(written).assert_exact();
    loading.assert_proven();
}

#[test]
fn a_bucket_that_is_not_there_or_not_ours_is_said_and_nothing_is_read() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let mut loading = Loading::new(kafka, &s3, "absent", 1);
    s3.fault(Fault::on(Op::List, Kind::Denied).times(1));
    let denied = loading.loader("").run("run", &[]);
    assert_eq!(denied.code, Some(1));
    assert!(denied.stderr.contains("access denied"), "{}", denied.stderr);
    loading.bucket = "no-such-bucket-of-ours".into();
    let absent = loading.loader("").run("run", &[]);
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.stderr.contains("does not exist"),
        "{}",
        absent.stderr
    );
}
