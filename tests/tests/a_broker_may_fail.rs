//! Three brokers, three copies, two of them written before a record counts (`acks=all`): any one
//! broker may die or be restarted in the middle, and nothing is lost or stored twice.

use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{KIP_848, Loading};
use headwater_tests::oracle::{Report, wait_until, wait_until_complete};
use headwater_tests::outside::unique;
use headwater_tests::process::{Loader, Process};
use headwater_tests::s3::{Fault, Kind, Op, Request, S3};
use headwater_tests::writer::Writer;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// How long brokers stand still: a loader waits 1 s for an answer, an agent 2 s, and the sessions of both groups are over.
const HANG: Duration = Duration::from_secs(6);

/// Two groups on one topic, one of each protocol, and a file that says when all of it has come to both.
struct World<'a> {
    loadings: [Loading<'a>; 2],
    marks: Writer,
}

impl<'a> World<'a> {
    fn new(kafka: &'a Kafka, s3: &'a S3, name: &str, marks: Writer) -> Self {
        let classic = Loading::new(kafka, s3, name, 3);
        let mut assigned = Loading::new(kafka, s3, name, 1).of(KIP_848);
        assigned.topic.clone_from(&classic.topic);
        Self {
            loadings: [classic, assigned],
            marks,
        }
    }

    /// Loaders whose requests are not waited for as long as librdkafka does by itself: 60 s.
    fn loaders(&self) -> [Process; 2] {
        self.loadings.each_ref().map(|loading| {
            let config = loading.config("[flush]\nage = \"300ms\"\n");
            let patience = "[kafka.options]\n\"socket.timeout.ms\" = \"1000\"\n";
            let config = config.replace("[kafka.options]\n", patience);
            Loader::with(&config).envs(loading.s3.env()).start()
        })
    }

    fn pass(&mut self, what: &str) {
        self.marks.write(300);
        let wanted: Vec<String> = self.marks.lines().collect();
        wait_until(what, PATIENCE, || {
            self.loadings.iter().all(|loading| {
                let stored = loading.stored();
                let found = stored
                    .iter()
                    .filter(|line| line.message.starts_with("marks:"));
                found.count() >= wanted.len()
            })
        });
    }

    fn assert_exact(&self, other: &Writer) {
        for loading in &self.loadings {
            let all = [other, &self.marks];
            wait_until_complete(&all, loading.s3, &loading.bucket, "data/", PATIENCE)
                .assert_exact();
        }
    }
}

#[test]
fn one_broker_killed_and_others_restarted_and_hung_in_the_middle() {
    let (kafka, s3) = (Kafka::start(3), S3::start());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = |name: &str| folder.path().join(format!("{name}.log"));
    let mut world = World::new(
        &kafka,
        &s3,
        "failover",
        Writer::new(log("marks"), "marks", 2),
    );
    let paths = format!("{}/*.log", folder.path().display());
    let more = "[spool]\nafter = \"500ms\"\n";
    let agent = world.loadings[0].agent(&paths, more).start();
    let loaders = world.loaders();
    world.pass("all is stored with three brokers");
    // One file grows all the time, also while leaders move; the other says when they have moved. The
    // agent runs by now, and has ten seconds to find each file before it gets another name.
    let steady = Writer::new(log("steady"), "steady", 1)
        .rate(200)
        .in_background(2000);
    world.pass("all is stored with a second file");
    kafka.kill_node(0);
    world.pass("all is stored while one of them is dead");
    kafka.restart();
    kafka.stop_node(1);
    world.pass("all is stored while another is stopped");
    kafka.restart();
    world.pass("all is stored with three brokers again");
    // The third hangs: connections stay open, and whoever waits for it has to find out by himself.
    kafka.pause_node(2);
    world.pass("all is stored while the third hangs");
    kafka.resume_node(2);
    world.pass("all is stored once it goes on");
    hang_with_commits_under_way(&kafka, &s3, &world);
    world.pass("all is stored once all go on");
    let steady = steady.stop();
    world.assert_exact(&steady);
    assert_eq!(agent.sigterm_and_wait(PATIENCE).code(), Some(0));
    for loader in loaders {
        assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    }
    world.assert_exact(&steady);
    for loading in &world.loadings {
        loading.assert_proven();
    }
}

/// All brokers hang while a batch of each group is being stored: the commits behind it are sent, time out, and lie unread
/// until the brokers go on. Nobody knows meanwhile which of them will count.
fn hang_with_commits_under_way(kafka: &Kafka, s3: &S3, world: &World<'_>) {
    let slow = Kind::Delay(Duration::from_millis(1500));
    let each = |wanted: &dyn Fn(&Request) -> bool| {
        let requests = s3.requests();
        world.loadings.iter().all(|loading| {
            let mut of = requests.iter().filter(|one| one.bucket == loading.bucket);
            of.any(wanted)
        })
    };
    s3.forget_requests();
    s3.fault(Fault::on(Op::Put, slow).for_keys_with("data/source="));
    wait_until("an object of each group is on its way", PATIENCE, || {
        each(&|one| one.fault == Some(slow) && one.status.is_none())
    });
    kafka.while_paused(|| {
        s3.forget_requests();
        s3.clear_faults();
        let began = headwater_tests::clock::now();
        wait_until("only the commit of each batch is left", PATIENCE, || {
            each(&|one| one.key.contains("_headwater/state/") && one.status == Some(200))
        });
        std::thread::sleep(HANG.saturating_sub(began.elapsed()));
    });
}

/// A record for each partition, by name.
fn give(loading: &Loading<'_>, partitions: std::ops::Range<i32>, name: &str) -> Vec<String> {
    let line = |partition: i32| format!("{name} of {partition}");
    let records = partitions.clone().map(|partition| Record {
        partition,
        value: format!("{{\"message\":\"{}\"}}", line(partition)).into_bytes(),
        ..Record::default()
    });
    loading.kafka.produce(&loading.topic, records);
    partitions.map(line).collect()
}

/// A topic without copies, and its partitions' brokers die in turns: whoever starts meanwhile loads what
/// has a leader, committed before or not, and the rest when it is back.
#[test]
fn a_partition_without_a_leader_holds_up_no_other() {
    let (kafka, s3) = (Kafka::start(3), S3::start());
    let mut loading = Loading::new(&kafka, &s3, "leaderless", 1);
    loading.topic = unique("leaderless-alone");
    kafka.create_topic_without_copies(&loading.topic, 6);
    let mut written = Vec::new();
    let stored = |loading: &Loading<'_>, what: &str, count: usize| {
        wait_until(what, PATIENCE, || loading.stored().len() >= count);
    };
    let mut loader = None;
    for round in ["never committed", "committed"] {
        written.extend(give(&loading, 0..6, round));
        let down = kafka.leader(&loading.topic, 0);
        let away = (0..6)
            .filter(|p| kafka.leader(&loading.topic, *p) == down)
            .count();
        kafka.stop_node(down);
        let started = loading.start();
        stored(
            &loading,
            "what has a leader is stored",
            written.len() - away,
        );
        kafka.restart();
        stored(&loading, "all is stored", written.len());
        if round == "never committed" {
            assert_eq!(started.sigterm_and_wait(PATIENCE).code(), Some(0));
        } else {
            loader = Some(started);
        }
    }
    assert_eq!(
        loader
            .expect("of the last round")
            .sigterm_and_wait(PATIENCE)
            .code(),
        Some(0)
    );
    Report::compare(written, &loading.stored()).assert_exact();
    let verified = loading.verify();
    assert_eq!(
        verified.code,
        Some(0),
        "{}{}",
        verified.stdout,
        verified.stderr
    );
}

/// The group's offsets go with the topic. Under offsets that are stored already lie other records now: they
/// are not taken for those, and it is said what to do.
#[test]
fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "anew", 1);
    let old: Vec<String> = (0..5)
        .flat_map(|n| give(&loading, 0..1, &n.to_string()))
        .collect();
    let stored = |count: usize| {
        wait_until("all is stored", PATIENCE, || {
            loading.stored().len() >= count
        });
    };
    let loader = loading.start();
    stored(old.len());
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    kafka.remake_topic(&loading.topic, 1);
    give(&loading, 0..1, "new");
    let loader = loading.start();
    wait_until("it says so", PATIENCE, || {
        let words = "the output holds all below offset 5, and the topic ends at 1";
        loader.stderr().contains(words)
    });
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    Report::compare(old, &loading.stored()).assert_exact();
}
