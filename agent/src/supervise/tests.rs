//! The parts together, without a broker: a start, a stop, and what a second start finds.

use std::path::Path;

use headwater_record::{Generation, StreamId};

use super::sources::Part;
use super::*;
use crate::checkpoint::{OpenGeneration, Origin, Registry};
use crate::config::{ConfigFile, Host};
use crate::spool::sealing::Keys;
use crate::spool::store::{Found, Present, REPLIES, Store};
use crate::stop::Stop;

fn plan(dir: &Path, text: &str) -> Plan {
    let file = format!("[[file]]\nid = 'f'\npaths = ['{}/*.log']\n", dir.display());
    plan_of(dir, &format!("{text}\n{file}"))
}

/// A plan of these sources alone.
fn plan_of(dir: &Path, text: &str) -> Plan {
    let text = format!(
        "device = 'd'\nstate_dir = '{}/state'\n[kafka]\nbrokers = ['127.0.0.1:1']\ntopic = 't'\n\
         [shutdown]\nflush = '100ms'\n{text}",
        dir.display()
    );
    let file: ConfigFile = headwater_msk::config_file::parse(&text).unwrap();
    Plan::new(file, &Host::default()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The plan's spool, without an agent.
fn opened(plan: &Plan) -> (Store, Found, mpsc::Receiver<Reply>) {
    let (reply, replies) = mpsc::channel(REPLIES);
    let to = (
        &plan.device,
        plan.spool.floors,
        Keys::default(),
        Present::default(),
    );
    let (store, opening) = Store::start(&plan.state_dir, to, reply).unwrap();
    (store, opening.blocking_recv().unwrap().unwrap(), replies)
}

fn no_other() -> Result<Plan, String> {
    Err("there is no other".into())
}

#[test]
fn what_a_dead_broker_does_not_take_is_in_the_spool_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    std::fs::write(dir.path().join("a.log"), &lines).unwrap();
    let plan = plan(dir.path(), "");
    let ending = runtime().block_on(async {
        let mut agent = Agent::start(&plan, &no_other).await.unwrap().unwrap();
        read_until(&mut agent, 1000).await;
        // A thread that is not heard of for an hour is held somewhere; these wait for a minute at most.
        let later = clock::monotonic().plus(Duration::from_secs(3600));
        let (thread, silent) = agent.sources.most_silent(later).unwrap();
        assert_eq!(thread, "files");
        assert!(silent > Duration::from_secs(3000), "{silent:?}");
        agent.signalled(SignalKind::terminate());
        agent.turn().await;
        agent.end()
    });
    assert_eq!(ending, Ending::Stopped);

    let (store, found, mut replies) = opened(&plan);
    assert_eq!(found.known.open[0].settled, lines.len() as u64);
    store.load(BatchId(0), found.last[0], u64::MAX).unwrap();
    let Some(Reply::Loaded { rows, .. }) = replies.blocking_recv() else {
        panic!("no rows");
    };
    let records: usize = rows.iter().map(|(_, batch)| batch.entries.len()).sum();
    assert_eq!(records, 1000);
    store.close();
}

/// Lets the agent go on while something is not yet so.
async fn go_on_while(agent: &mut Agent<'_>, not_yet: impl Fn(&Agent<'_>) -> bool) {
    while not_yet(agent) {
        match agent.wait().await {
            Wake::Batch(Some(batch)) => agent.edge.apply(Event::Queued(batch)),
            Wake::Store(Some(reply)) => agent.edge.apply(Event::Store(reply)),
            Wake::LetGo => agent.sources_let_go(),
            Wake::Known(known) => agent.known(known),
            Wake::Ended(ended) => agent.source_ended(&ended),
            _ => agent.edge.apply(Event::Tick),
        }
    }
}

/// Until so many records were read.
async fn read_until(agent: &mut Agent<'_>, records: u64) {
    go_on_while(agent, |agent| {
        agent.edge.delivery.counters().records < records
    })
    .await;
}

#[test]
fn a_new_configuration_is_taken_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, from: usize| {
        let lines: String = (from..from + 500).map(|n| format!("line {n}\n")).collect();
        let path = dir.path().join(name);
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        io::Write::write_all(&mut file.unwrap(), lines.as_bytes()).unwrap();
    };
    write("a.log", 0);
    write("b.txt", 0);
    let next = std::cell::RefCell::new(Err("it is no TOML".to_owned()));
    let reread = || next.borrow().clone();
    let first = plan(dir.path(), "");
    let more = format!(
        "[[file]]\nid = 'g'\npaths = ['{0}/*.txt']\nlane = 'high'\n\
         [[sensor]]\nid = 's'\npaths = ['{0}/number']\n",
        dir.path().display()
    );
    let reloads = runtime().block_on(async {
        let mut agent = Agent::start(&first, &reread).await.unwrap().unwrap();
        read_until(&mut agent, 500).await;
        // What is no configuration, and what cannot be changed, changes nothing.
        agent.signalled(SignalKind::hangup());
        *next.borrow_mut() = Ok(plan(dir.path(), &format!("[spool]\nafter = '9s'\n{more}")));
        agent.signalled(SignalKind::hangup());
        assert!(agent.reload.is_none());
        assert_eq!(
            (agent.reloads.refused, agent.reloads.last_refused),
            (2, true)
        );
        assert_eq!(agent.sources.parts(), [Part::Files]);
        // What can, goes on where it was, though nothing of it is settled.
        *next.borrow_mut() = Ok(plan(dir.path(), &more));
        agent.signalled(SignalKind::hangup());
        write("a.log", 500);
        read_until(&mut agent, 1500).await;
        assert_eq!(agent.sources.parts(), [Part::Files, Part::Sensors]);
        let lanes = agent.plan.lanes();
        assert_eq!(lanes[&"g".parse().unwrap()], crate::spool::Lane::High);
        // One that changes goes on where it was, too.
        *next.borrow_mut() = Ok(plan(dir.path(), &more.replace("high", "low")));
        agent.signalled(SignalKind::hangup());
        write("b.txt", 500);
        read_until(&mut agent, 2000).await;
        let lanes = agent.plan.lanes();
        assert_eq!(lanes[&"g".parse().unwrap()], crate::spool::Lane::Low);
        // And what is gone is read no more; its place is kept.
        *next.borrow_mut() = Ok(plan(dir.path(), ""));
        agent.signalled(SignalKind::hangup());
        agent.signalled(SignalKind::hangup());
        go_on_while(&mut agent, |agent| agent.reload.is_some()).await;
        assert_eq!(agent.sources.parts(), [Part::Files]);
        let reloads = agent.reloads;
        agent.signalled(SignalKind::terminate());
        agent.turn().await;
        let read = agent.edge.delivery.counters().records;
        assert!(
            (2000..2003).contains(&read),
            "nothing is read twice: {read}"
        );
        assert_eq!(agent.end(), Ending::Stopped);
        reloads
    });
    assert_eq!((reloads.taken, reloads.last_refused), (4, false));
    let known = crate::spool::peek::generations(&first.state_dir).unwrap();
    let settled = |source: &str| -> u64 {
        let its = known.iter().filter(|open| open.stream.source() == source);
        its.map(|open| open.settled).sum()
    };
    let bytes = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
    assert_eq!(
        (settled("f"), settled("g")),
        (bytes("a.log"), bytes("b.txt"))
    );
}

#[test]
fn what_steps_drop_is_told_of_the_source_and_a_reload_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "no JSON\n".repeat(100) + "{\"a\":1}\n";
    std::fs::write(dir.path().join("a.txt"), &lines).unwrap();
    let source = |lane: &str| {
        format!(
            "[[file]]\nid = 'p'\npaths = ['{}/*.txt']\nlane = '{lane}'\n\
             [[file.process]]\nstep = 'parse'\nformat = 'json'\non_error = 'drop'\n",
            dir.path().display()
        )
    };
    let first = plan(dir.path(), &source("normal"));
    let reread = || Ok(plan(dir.path(), &source("high")));
    runtime().block_on(async {
        let mut agent = Agent::start(&first, &reread).await.unwrap().unwrap();
        read_until(&mut agent, 1).await;
        let told = |agent: &Agent<'_>| agent.status().lines;
        go_on_while(&mut agent, |agent| told(agent)["p"].filtered < 100).await;
        assert_eq!(told(&agent)["p"].unparsed, 100);
        assert!(
            !told(&agent).contains_key("f"),
            "it does nothing with lines"
        );
        agent.signalled(SignalKind::hangup());
        go_on_while(&mut agent, |agent| agent.reload.is_some()).await;
        assert_eq!(agent.reloads.taken, 1);
        let file = std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join("a.txt"));
        io::Write::write_all(&mut file.unwrap(), lines.as_bytes()).unwrap();
        read_until(&mut agent, 2).await;
        go_on_while(&mut agent, |agent| told(agent)["p"].filtered < 200).await;
        agent.signalled(SignalKind::terminate());
        agent.turn().await;
        agent.end();
    });
}

/// The files in a folder that this process holds open though they are deleted.
fn held_deleted(dir: &Path) -> usize {
    let held = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = held.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links
        .filter(|link| link.starts_with(dir) && link.to_string_lossy().ends_with(" (deleted)"))
        .count()
}

#[test]
fn a_deleted_file_is_held_for_the_next_sources_and_no_longer_than_there_are_any() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    std::fs::write(&path, "line\n".repeat(500)).unwrap();
    let next = std::cell::RefCell::new(Err("it is not asked for".to_owned()));
    let reread = || next.borrow().clone();
    let sensor = format!(
        "[[sensor]]\nid = 's'\npaths = ['{}/number']\n",
        dir.path().display()
    );
    let (first, again) = (plan(dir.path(), ""), plan(dir.path(), &sensor));
    let none = plan_of(dir.path(), &sensor);
    runtime().block_on(async {
        let mut agent = Agent::start(&first, &reread).await.unwrap().unwrap();
        read_until(&mut agent, 500).await;
        // Longer than it takes to be read: it is held for `close_after`.
        std::fs::remove_file(&path).unwrap();
        for (plan, held) in [(again, 1), (none, 0)] {
            *next.borrow_mut() = Ok(plan);
            agent.signalled(SignalKind::hangup());
            go_on_while(&mut agent, |agent| agent.reload.is_some()).await;
            assert_eq!(held_deleted(dir.path()), held);
        }
        assert_eq!(agent.sources.parts(), [Part::Sensors]);
        agent.signalled(SignalKind::terminate());
        agent.turn().await;
        assert_eq!(agent.end(), Ending::Stopped);
    });
}

#[test]
fn the_place_in_a_journal_is_kept_while_no_source_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), "");
    let open = |generation, path: &str| OpenGeneration {
        generation: Generation(generation),
        stream: StreamId::new(&plan.device, &"j".parse().unwrap(), path.as_bytes()).unwrap(),
        origin: Origin::Sensor,
        settled: 70,
        skip_to: None,
        cuts: Vec::new(),
        marker: None,
        earlier: Vec::new(),
        goes_on: None,
    };
    let of_journal = open(1, "journal/739ad463348b4ceca5a9e69c95a3c93f");
    let of_sensor = open(2, "/sys/class/thermal/thermal_zone0/temp");
    let (store, ..) = opened(&plan);
    let registry = store.registry(Stop::new(), 1);
    registry.register(&[of_journal.clone(), of_sensor]).unwrap();
    drop(registry);
    store.close();

    runtime().block_on(async {
        let mut agent = Agent::start(&plan, &no_other).await.unwrap().unwrap();
        // What the sensor left open is closed, in the same turn.
        read_until(&mut agent, 1).await;
        agent.signalled(SignalKind::terminate());
        agent.turn().await;
        assert_eq!(agent.edge.delivery.counters().records, 1);
        assert_eq!(agent.end(), Ending::Stopped);
    });
    let known = crate::spool::peek::generations(&plan.state_dir).unwrap();
    let known: Vec<_> = known.iter().map(|open| &open.stream).collect();
    assert_eq!(known, [&of_journal.stream]);
}

#[test]
fn a_state_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), "");
    let (store, ..) = opened(&plan);
    let error = run(&plan, &no_other).unwrap_err().to_string();
    assert!(error.contains("another agent runs on"), "{error}");
    store.close();
}
