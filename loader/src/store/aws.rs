//! What every client of AWS is made with.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls;

/// Longest time in which a connection has to stand.
const CONNECT: Duration = Duration::from_secs(5);

/// How often a request is tried where nobody else tries it again: with the SDK's back-off, from 1 s on
/// and with full jitter, that is a minute and a half at most.
const ATTEMPTS: u32 = 12;
/// Longest wait between two of them.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Who tries a request again that may well work later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// The caller, with its own back-off, for as long as it owns what it writes.
    Caller,
    /// The client, some times: for commands, which would lose all that they have looked at, and for
    /// what is read once.
    Client,
}

/// Credentials from the environment as AWS's tools find them, and the region where none is given.
/// `timeout`: how long a request may take.
pub(super) async fn config(region: Option<&str>, timeout: Duration, retries: Retries) -> SdkConfig {
    let retries = match retries {
        Retries::Caller => RetryConfig::disabled(),
        Retries::Client => RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_max_backoff(WAIT_MAX),
    };
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let mut found = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = region {
        found = found.region(Region::new(region.to_owned()));
    }
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(timeout);
    // Behind what credentials are fetched with: these have their own.
    let found = found.load().await.into_builder();
    found
        .retry_config(retries)
        .timeout_config(timeouts.build())
        .build()
}
