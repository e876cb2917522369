//! The parts together, without a broker: a start, a stop, and what a second start finds.

use std::path::Path;

use super::*;
use crate::config::{ConfigFile, Host};
use crate::spool::store::{REPLIES, Store};

fn plan(dir: &Path, text: &str) -> Plan {
    let text = format!(
        "device = 'd'\nstate_dir = '{0}/state'\n[kafka]\nbrokers = ['127.0.0.1:1']\ntopic = 't'\n\
         [shutdown]\nflush = '100ms'\n{text}\n[[file]]\nid = 'f'\npaths = ['{0}/*.log']\n",
        dir.display()
    );
    let file: ConfigFile = headwater_msk::config_file::parse(&text).unwrap();
    Plan::new(file, &Host::default()).unwrap()
}

#[test]
fn what_a_dead_broker_does_not_take_is_in_the_spool_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    std::fs::write(dir.path().join("a.log"), &lines).unwrap();
    let plan = plan(dir.path(), "");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ending = runtime.block_on(async {
        let mut agent = Agent::start(&plan).await.unwrap().unwrap();
        // Until everything was read: the channel is the agent's own, so it is asked, not us.
        while agent.edge.delivery.counters().records < 1000 {
            match agent.wait().await {
                Wake::Batch(Some(batch)) => agent.edge.apply(Event::Queued(batch)),
                Wake::Store(Some(reply)) => agent.edge.apply(Event::Store(reply)),
                _ => agent.edge.apply(Event::Tick),
            }
        }
        agent.signalled(SignalKind::terminate());
        agent.turn().await;
        agent.end()
    });
    assert_eq!(ending, Ending::Stopped);

    let (reply, mut replies) = mpsc::channel(REPLIES);
    let (store, opening) =
        Store::start(&plan.state_dir, (&plan.device, plan.spool.floors), reply).unwrap();
    let found = opening.blocking_recv().unwrap().unwrap();
    assert_eq!(found.known[0].settled, lines.len() as u64);
    store.load(BatchId(0), found.last[0], u64::MAX).unwrap();
    let Some(Reply::Loaded { rows, .. }) = replies.blocking_recv() else {
        panic!("no rows");
    };
    let records: usize = rows.iter().map(|(_, batch)| batch.entries.len()).sum();
    assert_eq!(records, 1000);
    store.close();
}

#[test]
fn a_state_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), "");
    let (reply, _replies) = mpsc::channel(REPLIES);
    let (store, opening) =
        Store::start(&plan.state_dir, (&plan.device, plan.spool.floors), reply).unwrap();
    opening.blocking_recv().unwrap().unwrap();
    let error = run(&plan).unwrap_err().to_string();
    assert!(error.contains("another agent runs on"), "{error}");
    store.close();
}
