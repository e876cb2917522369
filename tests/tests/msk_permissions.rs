//! Who may do what on the MSK of the tests: the policies under `deploy/` for IAM, ACLs for the rest,
//! and how many may come at once.

use headwater_tests::kafka::iam::{Authorization, REGION, cluster_arn};
use headwater_tests::kafka::msk::{SCRAM_AGENT, SCRAM_LOADER, as_scram};
use headwater_tests::kafka::token::Presign;
use headwater_tests::kafka::visitor::{Visitor, knock};
use headwater_tests::kafka::{Key, Listener, Msk, Policy, Record};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::unique;
use headwater_tests::process::{Finished, Loader};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the IAM listener, or another one without a token.
fn visitor(key: Option<&Key>) -> Visitor {
    let Some(key) = key.cloned() else {
        return Visitor::new();
    };
    Visitor::with_tokens(move || (Presign::of(&key).token(), HOUR))
}

/// Tells what came of each record.
struct Sending {
    visitor: Visitor,
    reports: SyncSender<Result<(), RDKafkaErrorCode>>,
}

impl rdkafka::ClientContext for Sending {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
        self.visitor.generate_oauth_token(config)
    }
}

impl ProducerContext for Sending {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().expect("a code")),
        };
        self.reports.send(result).expect("somebody waits for it");
    }
}

/// What comes of one record, sent as an agent sends it.
fn send(config: &ClientConfig, key: Option<&Key>, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let (reports, answers) = sync_channel(1);
    let producer: BaseProducer<Sending> = config
        .clone()
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "20000")
        .create_with_context(Sending {
            visitor: visitor(key),
            reports,
        })
        .expect("a producer can be made");
    producer
        .send(BaseRecord::<str, str>::to(topic).key("pi-7").payload("x"))
        .map_err(|(error, _)| error.rdkafka_error_code().expect("a code"))?;
    loop {
        producer.poll(Duration::from_millis(50));
        let answer = answers.try_recv();
        // What concerns the producer as a whole purges its queue: that is no record's fault.
        if let Some((code, _)) = producer.client().fatal_error() {
            return Err(code);
        }
        if let Ok(answer) = answer {
            return answer;
        }
    }
}

/// Reads one record in a group and commits it, as a loader does.
fn read(
    config: &ClientConfig,
    key: Option<&Key>,
    topic: &str,
    group: &str,
) -> Result<(), RDKafkaErrorCode> {
    let consumer: BaseConsumer<Visitor> = config
        .clone()
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create_with_context(visitor(key))
        .expect("a consumer can be made");
    let code = |error: KafkaError| error.rdkafka_error_code().expect("a code");
    consumer.subscribe(&[topic]).map_err(code)?;
    let start = headwater_tests::clock::now();
    while start.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                return consumer
                    .commit_message(&message, CommitMode::Sync)
                    .map_err(code);
            }
            Some(Err(error)) => match code(error) {
                // On the way: the connection, the coordinator.
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown => {}
                other => return Err(other),
            },
            None => {}
        }
    }
    panic!("neither a record nor a refusal within {PATIENCE:?}")
}

/// What a policy lets one do on the cluster, less `Connect`: that is asked for by the listener, not by the
/// authorizer, and without it nothing would pass.
fn given(document: &str) -> BTreeSet<String> {
    let policy: serde_json::Value = serde_json::from_str(document).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let actions = statements.iter().flat_map(|one| match &one["Action"] {
        serde_json::Value::Array(all) => all.clone(),
        single => vec![single.clone()],
    });
    let names = actions.map(|action| action.as_str().expect("an action").to_owned());
    let mut given: BTreeSet<String> = names
        .filter(|action| action.starts_with("kafka-cluster:"))
        .collect();
    assert!(given.remove("kafka-cluster:Connect"));
    given
}

/// `headwater-loader topics` with this key.
fn topics(msk: &Msk, key: &Key, verb: &str, topic: &str) -> Finished {
    let config = format!(
        "[kafka]\nbrokers = {}\ntopic = \"{topic}\"\n[kafka.security]\nmode = \"iam\"\n\
         region = \"{REGION}\"\nca = \"{}\"\n[group]\nid = \"loader\"\n[output]\n\
         url = \"file://{{dir}}/out\"\n[topic]\nreplication = 1\nmin_in_sync = 1\n",
        msk.brokers(Listener::Iam),
        msk.pki().server_ca().display(),
    );
    Loader::with(&config)
        .envs(key.env())
        .run("topics", &[verb, "--json"])
}

#[test]
fn the_deployed_policies_are_enough_and_no_more() {
    let msk = Msk::shared();
    let (topic, other) = (unique("logs"), unique("other"));
    let (group, agent, loader) = (unique("group"), unique("agent"), unique("loader"));
    msk.kafka().create_topic(&topic, 1, &[]);
    msk.kafka().create_topic(&other, 1, &[]);
    msk.kafka().produce(&other, [Record::default()]);
    msk.iam().set_policy(&agent, &Policy::agent(&topic));
    msk.iam()
        .set_policy(&loader, &Policy::loader(&topic, &group));
    let agent = msk.iam().assume(&agent, "pi-7", HOUR);
    let loader = msk.iam().assume(&loader, "task-1", HOUR);
    let config = msk.client(Listener::Iam);

    assert_eq!(send(&config, Some(&agent), &topic), Ok(()));
    assert_eq!(read(&config, Some(&loader), &topic, &group), Ok(()));
    let denied = Err(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(send(&config, Some(&agent), &other), denied);
    assert_eq!(read(&config, Some(&loader), &other, &group), denied);
    assert_eq!(
        read(&config, Some(&agent), &topic, &group),
        Err(RDKafkaErrorCode::GroupAuthorizationFailed)
    );
    assert_eq!(
        read(&config, Some(&loader), &topic, &unique("another")),
        Err(RDKafkaErrorCode::GroupAuthorizationFailed)
    );
    assert_eq!(
        send(&config, Some(&loader), &topic),
        Err(RDKafkaErrorCode::ClusterAuthorizationFailed)
    );
    let looked = topics(msk, &loader, "describe", &topic);
    assert!(
        looked.stdout.contains("cleanup.policy"),
        "{}",
        looked.stderr
    );
    // All that the policies allow was asked for: nothing in them is idle.
    let used = |key: &Key| -> BTreeSet<String> {
        let all = msk.iam().authorizations().into_iter();
        all.filter(|one| one.principal == key.principal && one.allowed)
            .map(|one| one.action)
            .collect()
    };
    assert_eq!(
        used(&agent),
        given(include_str!("../../deploy/iam-agent.json"))
    );
    assert_eq!(
        used(&loader),
        given(include_str!("../../deploy/iam-loader.json"))
    );
    let asked = Authorization {
        principal: loader.principal.clone(),
        action: "kafka-cluster:WriteDataIdempotently".to_owned(),
        resource: cluster_arn(),
        allowed: false,
    };
    assert!(msk.iam().authorizations().contains(&asked));
}

#[test]
fn the_admins_policy_is_enough_for_topics_and_no_more() {
    let msk = Msk::shared();
    let (topic, role) = (unique("made"), unique("admin"));
    msk.iam().set_policy(&role, &Policy::admin(&topic));
    let key = msk.iam().assume(&role, "person", HOUR);
    let topics = |verb: &str, topic: &str| topics(msk, &key, verb, topic);
    let made = topics("create", &topic);
    assert!(
        made.stdout.contains("\"partitions\""),
        "{}{}",
        made.stdout,
        made.stderr
    );
    for verb in ["describe", "check"] {
        let told = topics(verb, &topic);
        assert!(
            told.stdout.contains("retention.ms"),
            "{verb}: {}",
            told.stderr
        );
    }
    let refused = topics("create", &unique("other"));
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    let asked = msk.iam().authorizations().into_iter();
    let asked = asked.filter(|one| one.principal == key.principal && one.allowed);
    let used: BTreeSet<String> = asked.map(|one| one.action).collect();
    let mut given = given(include_str!("../../deploy/iam-admin.json"));
    // For a person who looks with Kafka's own tools; our commands do without.
    assert!(given.remove("kafka-cluster:DescribeCluster"));
    assert_eq!(used, given);
}

/// MSK wants WriteDataIdempotently where WriteData is not on all topics, though Kafka itself does not
/// since KIP-679.
#[test]
fn without_write_data_idempotently_nothing_is_sent() {
    let msk = Msk::shared();
    let (topic, role) = (unique("logs"), unique("agent"));
    msk.kafka().create_topic(&topic, 1, &[]);
    let whole = include_str!("../../deploy/iam-agent.json");
    let less = whole.replace(", \"kafka-cluster:WriteDataIdempotently\"", "");
    assert_ne!(whole, less);
    msk.iam()
        .set_policy(&role, &Policy::deployed(&less, &topic, ""));
    let key = msk.iam().assume(&role, "pi-7", HOUR);
    assert_eq!(
        send(&msk.client(Listener::Iam), Some(&key), &topic),
        Err(RDKafkaErrorCode::ClusterAuthorizationFailed)
    );
    msk.iam().set_policy(&role, &Policy::all());
    assert_eq!(send(&msk.client(Listener::Iam), Some(&key), &topic), Ok(()));
}

#[test]
fn acls_do_the_same_for_everybody_else() {
    let msk = Msk::shared();
    let (topic, group) = (unique("logs"), unique("group"));
    msk.kafka().create_topic(&topic, 1, &[]);
    let (mut agent, mut loader) = (msk.client(Listener::Scram), msk.client(Listener::Scram));
    as_scram(&mut agent, SCRAM_AGENT);
    as_scram(&mut loader, SCRAM_LOADER);
    msk.allow_agent("User:agent", &topic);
    msk.allow_loader("User:loader", &topic, &group);
    assert_eq!(send(&agent, None, &topic), Ok(()));
    assert_eq!(read(&loader, None, &topic, &group), Ok(()));
    let denied = Err(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(send(&loader, None, &topic), denied);
    assert_eq!(read(&agent, None, &topic, &unique("another")), denied);
    let denied = Err(RDKafkaErrorCode::GroupAuthorizationFailed);
    assert_eq!(read(&agent, None, &topic, &group), denied);
}

#[test]
fn only_so_many_come_in_and_only_so_fast() {
    let msk = Msk::with().connection_limits(2, 100).start();
    msk.iam().set_policy("agent", &Policy::all());
    let key = msk.iam().assume("agent", "pi-7", HOUR);
    let config = msk.client(Listener::Iam);
    let client: BaseConsumer<Visitor> = config
        .create_with_context(visitor(Some(&key)))
        .expect("a client can be made");
    let is_in = || {
        drop(client.poll(Duration::from_millis(10)));
        let answer = client.fetch_metadata(None, Duration::from_millis(500));
        answer.is_ok()
    };
    // A connection counts from the moment it is made, whatever comes of it.
    let address = msk.bootstrap(Listener::Iam);
    let held = [(); 2].map(|()| TcpStream::connect(&address).expect("the port is open"));
    assert!((0..3).all(|_| !is_in()), "the third waits");
    drop(held);
    wait_until("there is room", PATIENCE, is_in);

    // The fast ones are MSK's own refusal; Kafka's limit only makes them wait, see below.
    msk.iam().set_connects_per_second_max(1);
    // Two at once, since one by one they may take more than a second each.
    wait_until("two came in one second", PATIENCE, || {
        let knock = || knock(&config, visitor(Some(&key)));
        let both = std::thread::scope(|threads| {
            let both = [(); 2].map(|()| threads.spawn(knock));
            both.map(|one| one.join().expect("a knock does not panic"))
        });
        let is_refused = |told: &Result<_, String>| {
            (told.as_ref()).is_err_and(|text| text.contains("Too many connects"))
        };
        both.iter().any(is_refused)
    });
}

#[test]
fn who_comes_faster_than_the_limit_waits_at_the_door() {
    let msk = Msk::with().connection_limits(3000, 2).start();
    let counted = || msk.connections(Listener::Iam);
    assert_eq!((counted().made, counted().held_up_ms), (0, 0));
    let address = msk.bootstrap(Listener::Iam);
    // The kernel takes them at once; the broker, which looks back over eleven seconds, one by one.
    let held = [(); 40].map(|()| TcpStream::connect(&address).expect("the port is open"));
    let mut held_up = false;
    wait_until("all are in, and some had to wait", PATIENCE, || {
        let counted = counted();
        held_up |= counted.held_up_ms > 0;
        held_up && counted.made == 40 && counted.closed == 0
    });
    drop(held);
    wait_until("all are out", PATIENCE, || counted().closed == 40);
}
