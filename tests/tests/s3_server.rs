//! The S3 server, asked by the AWS SDK: the properties that the loader builds on.

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier,
};
use aws_sdk_s3::{Client, config::Credentials};
use headwater_tests::oracle::wait_until;
use headwater_tests::s3::{Fault, Kind, Op, S3};
use std::time::Duration;

const BUCKET: &str = "bucket";
const MIB: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts if nothing is there; `Err` is the error's code, or what the SDK says without one.
async fn put_new(client: &Client, key: &str, body: Vec<u8>) -> Result<(), String> {
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .if_none_match("*");
    outcome(put.body(ByteStream::from(body)).send().await)
}

fn outcome<T, E>(result: Result<T, SdkError<E>>) -> Result<(), String>
where
    SdkError<E>: ProvideErrorMetadata + std::error::Error,
{
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(error
            .code()
            .map_or_else(|| DisplayErrorContext(&error).to_string(), str::to_owned)),
    }
}

fn failed(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

fn server() -> (S3, Client) {
    let s3 = S3::start();
    s3.bucket(BUCKET);
    let client = s3.client();
    (s3, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_conditional_puts_exactly_one_wins() {
    let (s3, client) = server();
    for round in 0..20 {
        let key = format!("race-{round}");
        let puts: Vec<_> = (0..32_u8)
            .map(|writer| {
                let (client, key) = (client.clone(), key.clone());
                tokio::spawn(async move { put_new(&client, &key, vec![writer; 100]).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (writer, put) in (0..32_u8).zip(puts) {
            match put.await.unwrap() {
                Ok(()) => winners.push(writer),
                Err(code) => assert_eq!(code, "PreconditionFailed"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(s3.objects(BUCKET, &key)[0].1, vec![winners[0]; 100]);
        assert_eq!(s3.count_by_key(Op::Put, BUCKET)[&key], 32);
    }
}

#[tokio::test]
async fn an_object_comes_back_with_what_was_said_about_it() {
    let (s3, client) = server();
    let put = client.put_object().bucket(BUCKET).key("dir/key with ü+&");
    put.body(ByteStream::from_static(b"content"))
        .metadata("records", "7")
        .content_type("application/x-ndjson")
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .send()
        .await
        .unwrap();
    let head = client.head_object().bucket(BUCKET).key("dir/key with ü+&");
    let head = head
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(7));
    assert_eq!(head.metadata().unwrap()["records"], "7");
    assert_eq!(head.content_type(), Some("application/x-ndjson"));
    assert!(head.checksum_crc64_nvme().is_some());
    let get = client.get_object().bucket(BUCKET).key("dir/key with ü+&");
    let get = get.range("bytes=1-3").send().await.unwrap();
    assert_eq!(get.content_range(), Some("bytes 1-3/7"));
    assert_eq!(get.body.collect().await.unwrap().to_vec(), b"ont");
    assert_eq!(
        s3.described(BUCKET, "")[0].1.attributes.metadata["records"],
        "7"
    );
}

#[tokio::test]
async fn every_checksum_of_the_sdk_is_accepted_and_a_wrong_one_refused() {
    let (s3, client) = server();
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        // Big enough to be sent in chunks, with the checksum behind them.
        let put = client.put_object().bucket(BUCKET).key(algorithm.as_str());
        let put = put.checksum_algorithm(algorithm);
        put.body(ByteStream::from(vec![7; 3 * MIB]))
            .send()
            .await
            .unwrap();
    }
    let put = client.put_object().bucket(BUCKET).key("wrong");
    let put = put.checksum_crc32("AAAAAA==");
    let put = put.body(ByteStream::from_static(b"content")).send().await;
    assert_eq!(outcome(put), failed("BadDigest"));
    let put = client.put_object().bucket(BUCKET).key("wrong");
    let put = put.content_md5("AAAAAAAAAAAAAAAAAAAAAA==");
    let put = put.body(ByteStream::from_static(b"content")).send().await;
    assert_eq!(outcome(put), failed("BadDigest"));
    assert_eq!(s3.keys(BUCKET, "").len(), 5);
}

#[tokio::test]
async fn what_is_missing_is_said_to_be() {
    let (_s3, client) = server();
    let get = client.get_object().bucket(BUCKET).key("none").send().await;
    assert_eq!(outcome(get), failed("NoSuchKey"));
    let get = client.get_object().bucket("none").key("none").send().await;
    assert_eq!(outcome(get), failed("NoSuchBucket"));
    let head = client.head_object().bucket(BUCKET).key("none").send().await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
    let put = client.put_object().bucket("none").key("k").send().await;
    assert_eq!(outcome(put), failed("NoSuchBucket"));
    let head = client.head_bucket().bucket("none").send().await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
    client.head_bucket().bucket(BUCKET).send().await.unwrap();
}

#[tokio::test]
async fn if_match_replaces_only_what_was_read() {
    let (s3, client) = server();
    let put = |etag: &str, body: &'static [u8]| {
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("head")
            .if_match(etag);
        put.body(ByteStream::from_static(body)).send()
    };
    assert_eq!(outcome(put("\"x\"", b"0").await), failed("NoSuchKey"));
    s3.put(BUCKET, "head", "1");
    let head = client.head_object().bucket(BUCKET).key("head").send().await;
    let etag = head.unwrap().e_tag().unwrap().to_owned();
    put(&etag, b"2").await.unwrap();
    assert_eq!(
        outcome(put(&etag, b"3").await),
        failed("PreconditionFailed")
    );
    assert_eq!(s3.objects(BUCKET, "head")[0].1, "2");
}

#[tokio::test]
async fn a_request_signed_with_other_keys_is_refused() {
    let (s3, client) = server();
    for (key, secret, code) in [
        (
            headwater_tests::s3::ACCESS_KEY,
            "other",
            "SignatureDoesNotMatch",
        ),
        ("OTHER", headwater_tests::s3::SECRET_KEY, "NotSignedUp"),
    ] {
        let other = Credentials::new(key, secret, None, None, "test");
        let config = client.config().to_builder().credentials_provider(other);
        let result = put_new(&Client::from_conf(config.build()), "k", b"x".to_vec()).await;
        assert_eq!(result, failed(code));
    }
    assert!(s3.keys(BUCKET, "").is_empty());
    assert!(s3.requests().is_empty());
}

#[tokio::test]
async fn listings_page_by_1000_and_fold_at_the_delimiter() {
    let (s3, client) = server();
    for number in 0..2500 {
        s3.put(BUCKET, &format!("p/{:02}/{number:05}", number % 50), "x");
    }
    let mut tokens = Vec::new();
    let mut keys = Vec::new();
    let mut token = None;
    loop {
        let list = client.list_objects_v2().bucket(BUCKET).prefix("p/");
        let page = list.set_continuation_token(token).send().await.unwrap();
        keys.extend(page.contents().iter().map(|o| o.key().unwrap().to_owned()));
        tokens.push(page.key_count().unwrap());
        token = page.next_continuation_token().map(str::to_owned);
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(tokens, [1000, 1000, 500]);
    assert_eq!(keys, s3.keys(BUCKET, "p/"));

    let list = client
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("p/")
        .delimiter("/");
    let mut pages = list.max_keys(7).into_paginator().send();
    let mut folders = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        assert!(page.contents().is_empty());
        let prefixes = page.common_prefixes().iter();
        folders.extend(prefixes.map(|p| p.prefix().unwrap().to_owned()));
    }
    let expect: Vec<_> = (0..50).map(|folder| format!("p/{folder:02}/")).collect();
    assert_eq!(folders, expect);

    let list = client
        .list_objects_v2()
        .bucket(BUCKET)
        .start_after("p/49/02399");
    let page = list.send().await.unwrap();
    assert_eq!(page.key_count(), Some(2));
}

#[tokio::test]
async fn objects_are_deleted_one_by_one_and_in_bulk() {
    let (s3, client) = server();
    for key in ["a", "b", "c"] {
        s3.put(BUCKET, key, key);
    }
    client
        .delete_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    client
        .delete_object()
        .bucket(BUCKET)
        .key("none")
        .send()
        .await
        .unwrap();
    let bucket = client.delete_bucket().bucket(BUCKET).send().await;
    assert_eq!(outcome(bucket), failed("BucketNotEmpty"));
    let keys = ["b", "c"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let all = Delete::builder()
        .set_objects(Some(keys.to_vec()))
        .build()
        .unwrap();
    client
        .delete_objects()
        .bucket(BUCKET)
        .delete(all)
        .send()
        .await
        .unwrap();
    assert!(s3.keys(BUCKET, "").is_empty());
    client.delete_bucket().bucket(BUCKET).send().await.unwrap();
}

async fn upload(client: &Client, key: &str, sizes: &[usize]) -> (String, CompletedMultipartUpload) {
    let create = client.create_multipart_upload().bucket(BUCKET).key(key);
    let create = create.checksum_algorithm(ChecksumAlgorithm::Crc32);
    let created = create.send().await.expect("an upload is created");
    let id = created.upload_id.expect("an upload has an id");
    let mut done = CompletedMultipartUpload::builder();
    for (number, size) in (1..).zip(sizes) {
        let part = client.upload_part().bucket(BUCKET).key(key).upload_id(&id);
        let part = part.part_number(number).body(vec![b'p'; *size].into());
        let part = part.send().await.expect("a part is taken");
        let named = CompletedPart::builder().part_number(number);
        let named = named
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32);
        done = done.parts(named.build());
    }
    (id, done.build())
}

async fn complete(
    client: &Client,
    key: &str,
    (id, parts): (String, CompletedMultipartUpload),
) -> Result<(), String> {
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(key);
    let complete = complete.upload_id(id).multipart_upload(parts);
    outcome(complete.if_none_match("*").send().await)
}

#[tokio::test]
async fn multipart_uploads_keep_the_rules() {
    let (s3, client) = server();
    let first = upload(&client, "k", &[5 * MIB, 5 * MIB, 10]).await;
    let second = upload(&client, "k", &[5 * MIB, 10]).await;
    let small = upload(&client, "small", &[5 * MIB - 1, 10]).await;
    assert_eq!(complete(&client, "k", first).await, Ok(()));
    let late = second.0.clone();
    assert_eq!(
        complete(&client, "k", second).await,
        failed("PreconditionFailed")
    );
    assert_eq!(
        complete(&client, "small", small).await,
        failed("EntityTooSmall")
    );
    assert_eq!(s3.unfinished_uploads(BUCKET), ["k", "small"]);
    let abort = client.abort_multipart_upload().bucket(BUCKET).key("k");
    abort.upload_id(late).send().await.unwrap();
    assert_eq!(s3.unfinished_uploads(BUCKET), ["small"]);
    let objects = s3.described(BUCKET, "");
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].1.bytes.len(), 10 * MIB + 10);
    assert!(objects[0].1.etag.ends_with("-3"));

    let (id, parts) = upload(&client, "unsaid", &[10]).await;
    let bare = parts.parts().iter().map(|part| {
        let bare = CompletedPart::builder().set_part_number(part.part_number());
        bare.set_e_tag(part.e_tag().map(str::to_owned)).build()
    });
    let bare = CompletedMultipartUpload::builder().set_parts(Some(bare.collect()));
    // An upload that was created with a checksum wants each part's when it is completed.
    let result = complete(&client, "unsaid", (id, bare.build())).await;
    assert_eq!(result, failed("InvalidRequest"));
}

#[tokio::test]
async fn faults_are_met_as_ordered() {
    let (s3, client) = server();
    for (kind, code) in [
        (Kind::Http500, "InternalError"),
        (Kind::Http503, "ServiceUnavailable"),
        (Kind::SlowDown, "SlowDown"),
        (Kind::Conflict409, "ConditionalRequestConflict"),
        (Kind::Denied, "AccessDenied"),
    ] {
        s3.fault(Fault::on(Op::Put, kind).times(2).for_keys_with("meets"));
        assert_eq!(put_new(&client, code, vec![0]).await, Ok(()));
        let key = format!("meets-{code}");
        assert_eq!(put_new(&client, &key, vec![0; 6 * MIB]).await, failed(code));
        assert_eq!(put_new(&client, &key, vec![0; 10]).await, failed(code));
        assert_eq!(put_new(&client, &key, vec![0; 10]).await, Ok(()));
    }
    assert_eq!(s3.faults_met(), 10);
    assert_eq!(s3.count(Op::Put), 20);
    s3.forget_requests();
    s3.fault(Fault::on(Op::Any, Kind::Http503).times(1));
    assert_eq!(
        put_new(&client, "late", vec![0]).await,
        failed("ServiceUnavailable")
    );
    assert_eq!(put_new(&client, "late", vec![0]).await, Ok(()));
    s3.fault(Fault::on(Op::Head, Kind::Http503));
    s3.clear_faults();
    client
        .head_object()
        .bucket(BUCKET)
        .key("late")
        .send()
        .await
        .unwrap();
    let seen: Vec<_> = s3.requests().iter().map(|r| (r.op, r.status)).collect();
    let expect = [
        (Op::Put, Some(503)),
        (Op::Put, Some(200)),
        (Op::Head, Some(200)),
    ];
    assert_eq!(seen, expect);
}

#[tokio::test]
async fn a_fault_for_a_time_is_met_until_it_is_over() {
    let (s3, client) = server();
    let during = |time| s3.fault(Fault::on(Op::Put, Kind::Http503).during(time));
    during(Duration::from_secs(3600));
    for _ in 0..3 {
        assert_eq!(
            put_new(&client, "key", vec![0]).await,
            failed("ServiceUnavailable")
        );
    }
    s3.clear_faults();
    // However slow the machine: from its end on it is not met, and before it the code is its own.
    during(Duration::from_millis(300));
    let until_over = async {
        while let Err(code) = put_new(&client, "key", vec![0]).await {
            assert_eq!(code, "ServiceUnavailable");
        }
    };
    let over = tokio::time::timeout(PATIENCE, until_over).await;
    over.expect("a fault for 300 ms ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_lost_before_or_after_the_commit() {
    let (s3, client) = server();
    let put = |key: &str| {
        let (client, key) = (client.clone(), key.to_owned());
        // On a thread of its own: it goes on while this one waits.
        tokio::spawn(async move { put_new(&client, &key, vec![1]).await })
    };
    for (met, (kind, stored)) in (1..).zip([
        (Kind::Timeout, false),
        (Kind::HangUp, false),
        (Kind::TimeoutAfterCommit, true),
        (Kind::HangUpAfterCommit, true),
    ]) {
        let key = format!("{kind:?}");
        s3.fault(Fault::on(Op::Put, kind).times(1));
        let mut first = put(&key);
        wait_until("the fault is met", PATIENCE, || s3.faults_met() == met);
        if stored {
            wait_until("it is carried out", PATIENCE, || {
                s3.keys(BUCKET, &key).len() == 1
            });
        }
        if matches!(kind, Kind::Timeout | Kind::TimeoutAfterCommit) {
            let result = tokio::time::timeout(Duration::from_millis(300), &mut first).await;
            assert!(result.is_err(), "{kind:?}: {result:?}");
            first.abort();
        } else {
            let result = tokio::time::timeout(PATIENCE, first).await;
            let result = result.expect("a connection that is closed ends the request");
            assert!(result.unwrap().is_err(), "{kind:?}");
        }
        // Whether it is stored, a put where nothing may be tells too.
        let again = tokio::time::timeout(PATIENCE, put(&key)).await;
        let again = again.expect("no fault is left").unwrap();
        let expect = if stored {
            failed("PreconditionFailed")
        } else {
            Ok(())
        };
        assert_eq!(again, expect, "{kind:?}");
    }
    let delay = Duration::from_millis(200);
    s3.fault(Fault::on(Op::Put, Kind::Delay(delay)).times(1));
    let start = headwater_tests::clock::now();
    assert_eq!(put("slow").await.unwrap(), Ok(()));
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
}
