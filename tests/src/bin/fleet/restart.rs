//! How a fleet comes back when all brokers were away: 200 clients of the IAM listener, each with a
//! record a second, configured as the agent configures librdkafka. Prints connects a second, as the
//! brokers counted them.

use headwater_tests::clock;
use headwater_tests::kafka::token::Presign;
use headwater_tests::kafka::visitor::Visitor;
use headwater_tests::kafka::{Listener, Msk, Policy};
use headwater_tests::oracle::wait_until;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

const CLIENTS: usize = 200;
const AWAY: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(300);
const TOPIC: &str = "logs";

/// A device: its tokens, and how many records the brokers took from it.
struct Device {
    visitor: Visitor,
    delivered: AtomicU64,
}

impl ClientContext for Device {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.visitor.generate_oauth_token(config)
    }
}

impl ProducerContext for Device {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Fleet {
    devices: Vec<BaseProducer<Device>>,
    last_sent: Instant,
}

impl Fleet {
    fn start(msk: &Msk) -> Self {
        msk.iam().set_policy("agent", &Policy::agent(TOPIC));
        let device = |n: usize| {
            let key = msk
                .iam()
                .assume("agent", &format!("device-{n}"), PATIENCE * 4);
            let visitor =
                Visitor::with_tokens(move || (Presign::of(&key).token(), Duration::from_secs(900)));
            let mut config = msk.client(Listener::Iam);
            for (name, value) in [
                // As msk/src/client.rs has them.
                ("reconnect.backoff.ms", "1000"),
                ("reconnect.backoff.max.ms", "30000"),
                ("topic.metadata.refresh.interval.ms", "300000"),
                ("enable.idempotence", "true"),
                ("message.timeout.ms", "0"),
            ] {
                config.set(name, value);
            }
            config
                .create_with_context(Device {
                    visitor,
                    delivered: AtomicU64::new(0),
                })
                .expect("a producer can be made")
        };
        Self {
            devices: (0..CLIENTS).map(device).collect(),
            last_sent: clock::now(),
        }
    }

    /// A record from each, once a second; and their callbacks.
    fn work(&mut self) {
        let due = self.last_sent.elapsed() >= Duration::from_secs(1);
        if due {
            self.last_sent = clock::now();
        }
        for (n, device) in self.devices.iter().enumerate() {
            if due {
                let key = format!("device-{n}");
                let record = BaseRecord::to(TOPIC).key(&key).payload("a line of a log");
                // A full queue is a long outage's: the record is one of many.
                device.send(record).ok();
            }
            device.poll(Duration::ZERO);
        }
        sleep(Duration::from_millis(10));
    }

    fn delivered(&self) -> Vec<u64> {
        let count =
            |device: &BaseProducer<Device>| device.context().delivered.load(Ordering::Relaxed);
        self.devices.iter().map(count).collect()
    }

    /// Works until each device has delivered more than `before`.
    fn until_all_deliver(&mut self, before: &[u64]) -> Duration {
        let start = clock::now();
        wait_until("every device delivers", PATIENCE, || {
            self.work();
            self.delivered()
                .iter()
                .zip(before)
                .all(|(now, then)| now > then)
        });
        start.elapsed()
    }
}

pub(super) fn run() {
    let msk = Msk::with().three_nodes().start();
    msk.kafka().create_topic(TOPIC, 3, &[]);
    let mut fleet = Fleet::start(&msk);
    let took = fleet.until_all_deliver(&vec![0; CLIENTS]);
    report(&msk, 0, "start", took);
    msk.kafka().kill();
    let down = clock::now();
    while down.elapsed() < AWAY {
        fleet.work();
    }
    let from = now_ms();
    let before = fleet.delivered();
    msk.kafka().restart();
    let ready_ms = now_ms() - from;
    let took = fleet.until_all_deliver(&before);
    println!("brokers ready after {ready_ms} ms");
    report(&msk, from, "after 60 s without any broker", took);
}

fn now_ms() -> u64 {
    let age = clock::wall().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(0))
}

fn report(msk: &Msk, from_ms: u64, what: &str, took: Duration) {
    let mut seconds: BTreeMap<u64, u32> = BTreeMap::new();
    let decisions = msk
        .iam()
        .decisions()
        .into_iter()
        .filter(|one| one.at_ms >= from_ms);
    for decision in decisions {
        *seconds.entry(decision.at_ms / 1000).or_default() += 1;
    }
    let all: u32 = seconds.values().sum();
    let most = seconds.values().max().copied().unwrap_or(0);
    println!(
        "{what}: {CLIENTS} clients, three brokers: all deliver after {took:.1?}; {all} connects in {} \
         seconds with any, {most} in the busiest, all brokers together",
        seconds.len()
    );
    println!("  each second: {:?}", seconds.values().collect::<Vec<_>>());
}
