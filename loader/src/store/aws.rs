//! What every client of AWS is made with.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls;

/// Longest time in which a connection has to stand.
const CONNECT: Duration = Duration::from_secs(5);

/// Credentials from the environment as AWS's tools find them, and the region where none is given. The
/// SDK's own retries are off: callers retry with their own back-off, for as long as they own what they
/// write. `timeout`: how long a request may take.
pub(super) async fn config(region: Option<&str>, timeout: Duration) -> SdkConfig {
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
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .build()
}
