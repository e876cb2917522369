//! How it stands with AWS credentials, for Prometheus: read when it is asked for. In other modes than
//! `iam` there are none, and no metric of them.

use std::fmt;
use std::sync::Arc;

use headwater_msk::Cluster;
use headwater_msk::credentials::Health;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The credentials of a cluster's clients.
#[derive(Debug)]
pub struct Credentials(pub Arc<Cluster>);

impl Collector for Credentials {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.health() {
            Some(health) => show(&health, &mut encoder),
            None => Ok(()),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "OpenMetrics numbers are doubles: beyond 2^53 a reader sees no single step"
)]
fn show(health: &Health, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let gauges = [
        (
            "credentials_valid",
            "1 where there are AWS credentials that have not ended",
            Some(f64::from(u8::from(health.valid))),
        ),
        (
            "credentials_left_seconds",
            "Time until they end",
            health.left_ms.map(|ms| ms as f64 / 1000.0),
        ),
        (
            "clock_offset_seconds",
            "AWS's clock less this machine's, where the source of the credentials tells the time",
            health.clock_offset_ms.map(|ms| ms as f64 / 1000.0),
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            let into = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(into)?;
        }
    }
    for (name, help, value) in [
        (
            "credentials_fetched",
            "Times that the source gave credentials",
            health.fetched,
        ),
        (
            "credentials_failures",
            "Times that it gave none",
            health.failures,
        ),
        (
            "principals_changed",
            "Times that the credentials were another principal's than before",
            health.principals_changed,
        ),
        ("tokens_signed", "Tokens signed", health.tokens),
        (
            "clock_steps",
            "Times that the clock was set",
            health.clock_steps,
        ),
    ] {
        let into = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(into)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[derive(Debug)]
    struct Fixed(Health);

    impl Collector for Fixed {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            show(&self.0, &mut encoder)
        }
    }

    fn text(health: Health) -> String {
        let mut registry = Registry::with_prefix("headwater_loader");
        registry.register_collector(Box::new(Fixed(health)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_prometheus_sees_and_what_is_documented() {
        let health = Health {
            valid: true,
            left_ms: Some(3_141_500),
            clock_offset_ms: Some(-812),
            fetched: 12,
            failures: 3,
            ..Health::default()
        };
        let shown = text(health);
        for line in [
            "headwater_loader_credentials_valid 1.0\n",
            "headwater_loader_credentials_left_seconds 3141.5\n",
            "headwater_loader_clock_offset_seconds -0.812\n",
            "headwater_loader_credentials_fetched_total 12\n",
            "headwater_loader_credentials_failures_total 3\n",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/loader.md");
        let page = std::fs::read_to_string(page).unwrap();
        for line in shown.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(' ').next().unwrap();
            let name = name.strip_prefix("headwater_loader_").unwrap();
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
        let unknown = text(Health::default());
        assert!(unknown.contains("credentials_valid 0.0") && !unknown.contains("offset"));
        assert!(!unknown.contains("left"), "{unknown}");
    }
}
