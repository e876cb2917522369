//! Agent and loader together by IAM on three brokers, each with the least that `deploy/` gives its
//! role: through brokers that come and go, and through many sessions in which nothing happens. No
//! connection is lost to a session's end, and nothing else is either.
//!
//! Sessions are over after six seconds here (`connections.max.reauth.ms`), tokens after half a minute.

use headwater_tests::kafka::{Connections, Listener, Msk};
use headwater_tests::oracle::wait_until;
use headwater_tests::secured::{Principals, Running, Secured};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
const SESSION: Duration = Duration::from_secs(6);
/// Of credentials, and so of tokens: both are made anew several times in each test.
const LIFE: Duration = Duration::from_secs(30);

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

#[test]
fn more_than_ten_sessions_pass_without_a_disconnect_and_then_a_record_goes_through() {
    let (msk, _turn) = cluster();
    let world = Secured::on(msk, "idle");
    world.set_life(LIFE);
    let (mut running, principals) = Running::by_iam(&world, "idle");
    let accepted = |principal: &str| {
        let all = msk.iam().decisions().into_iter();
        let ours = all.filter(|one| one.accepted && one.principal == principal);
        ours.map(|one| one.key_id).collect::<Vec<_>>()
    };
    // What a start takes (a broker that is asked for the others) is over.
    let mut before = held(&running, msk);
    wait_until(
        "a session has passed with the same connections",
        PATIENCE,
        || {
            let (sockets, counted) = held(&running, msk);
            let open = sockets.iter().map(BTreeSet::len).sum::<usize>() as u64;
            if sockets != before.0 || counted.made != before.1.made {
                before = (sockets, counted);
                return false;
            }
            counted.again >= before.1.again + open
        },
    );
    let (sockets, counted) = held(&running, msk);
    assert!(
        sockets.iter().all(|sockets| !sockets.is_empty()),
        "{sockets:?}"
    );
    let open = sockets.iter().map(BTreeSet::len).sum::<usize>() as u64;
    assert!(counted.made - counted.closed >= open, "{counted:?}");
    let tokens_before = [&principals.agent, &principals.loader].map(|one| accepted(one).len());

    // Not a line is written all this time.
    wait_until("more than ten sessions are over on each", PATIENCE, || {
        msk.connections(Listener::Iam).again > counted.again + 11 * open
    });
    // librdkafka may have made one more: while its only connection authenticates anew it counts as
    // being without any (`rd_kafka_1s_tmr_cb`).
    let assert_none_lost = |running: &Running<'_>| {
        let (sockets_after, after) = held(running, msk);
        for (before, after) in sockets.iter().zip(&sockets_after) {
            assert!(after.is_superset(before), "{before:?}, {after:?}");
        }
        let lost = |counted: Connections| (counted.closed, counted.expired);
        assert_eq!(lost(after), lost(counted), "{counted:?}, {after:?}");
    };
    assert_none_lost(&running);
    for ((principal, before), sockets) in [&principals.agent, &principals.loader]
        .into_iter()
        .zip(tokens_before)
        .zip(&sockets)
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
    assert_none_lost(&running);
    running.stop();
    running.loading.assert_proven();
    assert_nothing_denied(msk, &principals);
}
