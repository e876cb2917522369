//! The AWS SDK as a client of the S3 server, ours or an outside one.

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use hyper::body::Bytes;
use std::sync::mpsc::sync_channel;
use tokio::runtime::Runtime;

pub(super) fn new(endpoint: &str, keys: &(String, String), region: &str) -> Client {
    let credentials = Credentials::new(&keys.0, &keys.1, None, None, "headwater-tests");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

/// Runs a call on `runtime` and waits for it, from inside a runtime or outside.
pub(super) fn wait<T: Send + 'static>(
    runtime: &Runtime,
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = sync_channel(1);
    runtime.spawn(async move {
        // Nobody waits any more: nothing to tell.
        answer.send(call.await).ok();
    });
    answered.recv().context("the call panicked")?
}

pub(super) async fn create_bucket(client: Client, name: String) -> Result<()> {
    match client.create_bucket().bucket(&name).send().await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create bucket {name}")),
    }
}

pub(super) async fn put(client: Client, bucket: String, key: String, bytes: Vec<u8>) -> Result<()> {
    let put = client.put_object().bucket(bucket).key(&key);
    put.body(ByteStream::from(bytes))
        .send()
        .await
        .with_context(|| format!("cannot put {key}"))?;
    Ok(())
}

pub(super) async fn objects(
    client: Client,
    bucket: String,
    prefix: String,
) -> Result<Vec<(String, Bytes)>> {
    let list = client.list_objects_v2().bucket(&bucket).prefix(prefix);
    let mut pages = list.into_paginator().send();
    let mut objects = Vec::new();
    while let Some(page) = pages.next().await {
        for key in page?.contents().iter().filter_map(|object| object.key()) {
            let object = client.get_object().bucket(&bucket).key(key).send().await;
            // A loader at work removes old state between our listing and our reading.
            if object
                .as_ref()
                .is_err_and(|error| error.code() == Some("NoSuchKey"))
            {
                continue;
            }
            let object = object.with_context(|| format!("cannot get {key}"))?;
            objects.push((key.to_owned(), object.body.collect().await?.into_bytes()));
        }
    }
    Ok(objects)
}
