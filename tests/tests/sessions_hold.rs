//! Agent and loader together by IAM on three brokers, each with the least that `deploy/` gives its
//! role: through brokers that come and go, and through many sessions in which nothing happens. No
//! connection is lost to a session's end, and nothing else is either.
//!
//! Sessions are over after eight seconds here (`connections.max.reauth.ms`), tokens after half a minute.

use headwater_tests::kafka::{Connections, Listener, Msk};
use headwater_tests::oracle::wait_until;
use headwater_tests::secured::{Principals, Running, Secured};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(240);
const SESSION: Duration = Duration::from_secs(8);
/// Of credentials, and so of tokens: both are made anew several times in each test.
const LIFE: Duration = Duration::from_secs(30);
/// How often more than ten sessions are waited for where a machine may have been too slow for one.
const ATTEMPTS: usize = 3;

/// The cluster, for one test at a time: one of them kills brokers, the other counts connections.
fn cluster() -> (&'static Msk, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    static MSK: OnceLock<Msk> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || Msk::with().three_nodes().session_max(SESSION).start();
    (MSK.get_or_init(start), turn)
}

/// Neither asked for anything that its policy does not give.
#[track_caller]
fn assert_nothing_denied(msk: &Msk, principals: &Principals) {
    let asked = msk.iam().authorizations();
    for principal in [&principals.agent, &principals.loader] {
        let of = |allowed: bool| {
            // No action of IAM: the broker asks whether a consumer is a broker, then what it may describe.
            let all = asked
                .iter()
                .filter(|one| one.action.starts_with("kafka-cluster:"));
            let all = all.filter(move |one| one.allowed == allowed);
            all.filter(|one| one.principal.contains(principal)).count()
        };
        assert_eq!(of(false), 0, "{principal}: {asked:#?}");
        assert!(of(true) > 0, "{principal}: {asked:#?}");
    }
}

#[test]
fn both_by_iam_deliver_while_one_broker_is_killed_and_another_restarted() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "both");
    world.set_life(LIFE);
    let (mut running, principals) = Running::by_iam(&world, "both");
    let topic = running.loading.topic.clone();
    // All lines of a device are in one partition: it is the leader of that one that goes.
    let records = msk.kafka().records(&topic);
    let partition = records.first().expect("lines were delivered").partition;
    assert!(records.iter().all(|record| record.partition == partition));
    running.writer.write(300);
    msk.kafka().kill_node(msk.kafka().leader(&topic, partition));
    running.writer.write(300);
    running.complete();
    msk.kafka().restart();
    running.writer.write(300);
    msk.kafka().stop_node(msk.kafka().leader(&topic, partition));
    running.writer.write(300);
    msk.kafka().restart();
    running.writer.write(300);
    running.complete();
    running.stop();
    running.loading.assert_proven();
    assert_nothing_denied(msk, &principals);
}

/// The connections of both sides, as their own kernel, and as the brokers know them.
fn held(running: &Running<'_>, msk: &Msk) -> ([BTreeSet<u64>; 2], Connections) {
    let ports = msk.ports(Listener::Iam);
    let sockets = [&running.agent, &running.loader].map(|process| process.sockets(&ports));
    (sockets, msk.connections(Listener::Iam))
}

/// A moment at which nothing had come or gone for a session.
struct Baseline {
    sockets: [BTreeSet<u64>; 2],
    counted: Connections,
}

impl Baseline {
    /// What a start takes (a broker that is asked for the others) is over.
    fn wait_for(running: &Running<'_>, msk: &Msk) -> Self {
        let mut before = held(running, msk);
        wait_until(
            "a session has passed with the same connections",
            PATIENCE,
            || {
                let (sockets, counted) = held(running, msk);
                let open = sockets.iter().map(BTreeSet::len).sum::<usize>() as u64;
                if sockets != before.0 || counted.made != before.1.made {
                    before = (sockets, counted);
                    return false;
                }
                counted.again >= before.1.again + open
            },
        );
        let (sockets, counted) = held(running, msk);
        assert!(
            sockets.iter().all(|sockets| !sockets.is_empty()),
            "{sockets:?}"
        );
        let base = Self { sockets, counted };
        assert!(counted.made - counted.closed >= base.open(), "{counted:?}");
        base
    }

    /// How many connections are open.
    fn open(&self) -> u64 {
        self.sockets.iter().map(BTreeSet::len).sum::<usize>() as u64
    }

    /// No connection was lost since. `Err`: one whose client authenticated too late, if at all.
    ///
    /// librdkafka may have made one more: while its only connection authenticates anew it counts as
    /// being without any (`rd_kafka_1s_tmr_cb`).
    fn none_lost(&self, running: &Running<'_>, msk: &Msk) -> Result<(), String> {
        let (sockets, after) = held(running, msk);
        if after.expired != self.counted.expired {
            return Err(format!("{:?}, {after:?}", self.counted));
        }
        for (before, after) in self.sockets.iter().zip(&sockets) {
            assert!(after.is_superset(before), "{before:?}, {after:?}");
        }
        assert_eq!(
            after.closed, self.counted.closed,
            "{:?}, {after:?}",
            self.counted
        );
        Ok(())
    }
}

/// More than ten sessions without a line, and then one. `Err`: a client authenticated too late.
fn idle(running: &mut Running<'_>, msk: &Msk, principals: [&String; 2]) -> Result<(), String> {
    let accepted = |principal: &str| {
        let all = msk.iam().decisions().into_iter();
        let ours = all.filter(|one| one.accepted && one.principal == principal);
        ours.map(|one| one.key_id).collect::<Vec<_>>()
    };
    let base = Baseline::wait_for(running, msk);
    let tokens_before = principals.map(|one| accepted(one).len());
    wait_until("more than ten sessions are over on each", PATIENCE, || {
        msk.connections(Listener::Iam).again > base.counted.again + 11 * base.open()
    });
    base.none_lost(running, msk)?;
    for ((principal, before), sockets) in
        principals.into_iter().zip(tokens_before).zip(&base.sockets)
    {
        let keys = accepted(principal).split_off(before);
        assert!(
            keys.len() > 10 * sockets.len(),
            "{principal}: {}",
            keys.len()
        );
        // By other credentials than at first.
        let keys: BTreeSet<String> = keys.into_iter().collect();
        assert!(keys.len() > 1, "{principal}: {keys:?}");
    }
    running.writer.write(1);
    running.complete();
    base.none_lost(running, msk)
}

#[test]
fn more_than_ten_sessions_pass_without_a_disconnect_and_then_a_record_goes_through() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "idle");
    world.set_life(LIFE);
    let (mut running, principals) = Running::by_iam(&world, "idle");
    // A client has the last tenth of a session to authenticate in, and a machine that stands still
    // for as long is no fault of its: what a session's end costs is looked for anew then. A client
    // that is late by itself is so each time.
    let mut late = Vec::new();
    while let Err(lost) = idle(&mut running, msk, [&principals.agent, &principals.loader]) {
        late.push(lost);
        assert!(late.len() < ATTEMPTS, "sessions end each time: {late:#?}");
    }
    running.stop();
    running.loading.assert_proven();
    assert_nothing_denied(msk, &principals);
}
