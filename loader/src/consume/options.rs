//! librdkafka's options for the loader.

use headwater_msk::Cluster;
use rdkafka::config::ClientConfig;

use crate::config::Plan;
use crate::config::file::Protocol;
use crate::consume::consumer::ConsumerError;

/// librdkafka's configuration for a plan. What a person may change in `[kafka.options]` stays.
pub(super) fn client_config(plan: &Plan, cluster: &Cluster) -> Result<ClientConfig, ConsumerError> {
    let mut config = cluster
        .client_config("headwater-loader")
        .map_err(|error| ConsumerError::Again(error.to_string()))?;
    let fixed = [
        ("group.id", plan.group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
    ];
    for (name, value) in fixed {
        config.set(name, value);
    }
    let fetch = plan.memory.fetch;
    let mut modest = vec![
        ("queued.max.messages.kbytes", fetch / 1024),
        // Small records cost several times their bytes there: no more of a partition than keeps its worker busy.
        ("queued.min.messages", 10_000),
        // A response is decompressed whole: it must not be many times the queue's bound.
        ("fetch.max.bytes", fetch / 2),
        ("max.partition.fetch.bytes", (fetch / 2).min(1024 * 1024)),
        ("fetch.wait.max.ms", 200),
        // Where partitions end, for the lag; a few milliseconds of work each time.
        ("statistics.interval.ms", 2000),
    ];
    match plan.protocol {
        Protocol::Classic => {
            let session = plan.session_timeout.as_millis();
            modest.push(("session.timeout.ms", session));
            modest.push(("heartbeat.interval.ms", (session / 4).max(1)));
            // librdkafka wants it no shorter than the session; 5 min is its default.
            modest.push(("max.poll.interval.ms", session.max(300_000)));
            if !plan
                .kafka
                .options
                .contains_key("partition.assignment.strategy")
            {
                config.set("partition.assignment.strategy", "range");
            }
        }
        // Session and heartbeats are the broker's (group.consumer.session.timeout.ms).
        Protocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    for (name, value) in modest {
        if !plan.kafka.options.contains_key(name) {
            config.set(name, value.to_string());
        }
    }
    if let Some(instance) = &plan.instance {
        config.set("group.instance.id", instance);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Tables;

    #[test]
    fn what_is_modest_may_be_changed_and_what_the_promises_rest_on_may_not() {
        let asked = |options: &str| {
            let text = format!(
                "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[kafka.security]\nallow_plaintext=true\n\
                 [kafka.options]\n{options}\n[group]\nid='g'\n[output]\nurl='s3://b/p'\n"
            );
            let file = headwater_msk::config_file::parse(&text).unwrap();
            let plan = Plan::new(&file, Tables::new(), None).unwrap();
            let cluster = Cluster::open(&plan.kafka, &plan.credentials, "loader").unwrap();
            let config = client_config(&plan, &cluster).unwrap();
            let of = |name: &str| config.get(name).map(str::to_owned);
            [of("queued.min.messages"), of("enable.auto.commit")]
        };
        let expected = |messages: &str| [Some(messages.to_owned()), Some("false".to_owned())];
        assert_eq!(asked(""), expected("10000"));
        assert_eq!(asked("'queued.min.messages' = '500'"), expected("500"));
    }
}
