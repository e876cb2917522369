use std::path::Path;

use tokio::sync::mpsc;

use headwater_record::Ledger;

use super::*;
use crate::aggregate::Windows;
use crate::books::{AccountsFile, Books, Opening};
use crate::config::file::Tables;
use crate::consume::CommitError;
use crate::consume::tenure::{Tenant, tenure};
use crate::fetched::{Fetched, Identity};
use crate::metrics::{Requests, Standing};
use crate::partition::intent::Committed;
use crate::state::State;
use crate::store::folder::Folder;

/// A group that takes every commit.
struct Group;

impl Commit for Group {
    fn commit(&self, _: i32, _: u64, _: &Committed) -> Result<(), CommitError> {
        Ok(())
    }

    fn end(&self, _: i32) -> Option<u64> {
        None
    }
}

/// A loader's surroundings, with a folder as its output, and batches of one record.
struct Loader {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    _pipeline: watch::Sender<Arc<Pipeline>>,
}

impl Loader {
    fn into(root: &Path) -> Self {
        Self::with(root, 1, 1 << 20)
    }

    /// Batches of so many records, and a bound of so many bytes.
    fn with(root: &Path, records: u64, bound: usize) -> Self {
        Self::patient(root, (records, bound), REFUSAL_LASTS)
    }

    /// A refusal is taken for one that stays when it has lasted so long.
    fn patient(root: &Path, (records, bound): (u64, usize), refusal_lasts: Duration) -> Self {
        let text = format!(
            "[kafka]\nbrokers=['localhost:1']\ntopic='logs'\n[group]\nid='g'\n[output]\nurl='file://{}'\npath='all'\n\
             [flush]\nrecords={records}\n",
            root.display()
        );
        let file = headwater_msk::config_file::parse(&text).unwrap();
        let plan = Plan::new(&file, Tables::new(), None).unwrap();
        let (stop, stopped) = watch::channel(false);
        let (current, pipeline) = watch::channel(Arc::clone(&plan.pipeline));
        let shared = Shared {
            pipeline,
            pipelines: Pipelines::default(),
            store: Store::Folder(Folder::new(root.into())),
            tables: Arc::new(DynamoDb::new(plan.dynamodb.clone(), Requests::default())),
            staging: Staging::new(bound),
            prefetch: Arc::new(Prefetch::new(1 << 20)),
            tally: Tally::default(),
            metrics: Arc::default(),
            status: Status::default(),
            polled_ms: Arc::default(),
            refusal_lasts,
            flush: watch::channel(0).1,
            stop: stopped,
            plan,
        };
        Self {
            shared: Arc::new(shared),
            stop,
            _pipeline: current,
        }
    }

    /// Its partition 0, and what the poll thread has of it.
    fn assign(&self) -> (Assigned, Lane) {
        let (records, receiver) = mpsc::channel(8);
        let (tenant, tenure) = tenure();
        let assigned = Assigned {
            partition: 0,
            epoch: 1,
            committed: None,
            low: 0,
            end: Some(9),
            records: receiver,
            tenure,
        };
        let lane = Lane {
            prefetch: Arc::clone(&self.shared.prefetch),
            records,
            tenant,
        };
        (assigned, lane)
    }

    fn run(&self, assigned: Assigned) -> tokio::task::JoinHandle<Ended> {
        tokio::spawn(run(Arc::clone(&self.shared), Arc::new(Group), assigned))
    }

    /// Nobody but this one knows of the surroundings: no worker, and nothing that one began.
    async fn alone(&self) {
        until("all tasks have ended", || {
            Arc::strong_count(&self.shared) == 1
        })
        .await;
    }
}

struct Lane {
    prefetch: Arc<Prefetch>,
    records: mpsc::Sender<HandOver>,
    tenant: Tenant,
}

impl Lane {
    async fn give(&self, offset: u64) {
        let mut fetched = Fetched::default();
        fetched.push(offset, 5, Some(br#"{"message":"m"}"#), Identity::Foreign);
        let permit = self.prefetch.admit(&Arc::default(), 1, fetched.held());
        let permit = permit.expect("there is room");
        let handed = self.records.send(HandOver { fetched, permit }).await;
        handed.expect("the worker takes it");
    }
}

/// Whether it is said that not everything is loaded, in these words.
fn says(metrics: &Metrics, why: &str) -> bool {
    metrics.not_ready().is_some_and(|said| said.contains(why))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), patience).await;
    waited.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A worker whose upload cannot succeed: where its folder should be there is a file.
async fn stuck(loader: &Loader) -> (tokio::task::JoinHandle<Ended>, Lane) {
    let (assigned, lane) = loader.assign();
    let worker = loader.run(assigned);
    for offset in 0..3 {
        lane.give(offset).await;
    }
    until("an upload was tried, and another batch is open", || {
        loader.shared.metrics.retries.get() > 0 && loader.shared.staging.held().0 > 0
    })
    .await;
    (worker, lane)
}

#[tokio::test]
async fn one_that_is_dropped_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("all"), "a file").unwrap();
    let loader = Loader::into(root.path());
    let (worker, lane) = stuck(&loader).await;
    worker.abort();
    assert!(worker.await.unwrap_err().is_cancelled());
    assert_eq!(loader.shared.staging.held().0, 0);
    assert_eq!(loader.shared.metrics.readings(0), []);
    loader.alone().await;
    assert_eq!(loader.shared.prefetch.held(), 0);
    assert!(lane.records.is_closed());
}

#[tokio::test]
async fn one_whose_partition_is_taken_away_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("all"), "a file").unwrap();
    let loader = Loader::into(root.path());
    let (worker, lane) = stuck(&loader).await;
    drop(lane);
    assert!(matches!(worker.await.unwrap(), Ended::Revoked));
    assert_eq!(loader.shared.staging.held().0, 0);
    assert_eq!(loader.shared.metrics.readings(0), []);
    loader.alone().await;
    assert_eq!(loader.shared.prefetch.held(), 0);
}

/// The group lost its offset, the output has a state, and where the topic ends is not known.
#[tokio::test]
async fn one_that_waits_to_take_up_ends_with_its_partition() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(state_folder("logs", 0));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(crate::name::snapshot_name(4, 1)), "state").unwrap();
    let loader = Loader::into(root.path());
    let (mut assigned, lane) = loader.assign();
    assigned.end = None;
    let worker = loader.run(assigned);
    lane.give(0).await;
    drop(lane);
    assert!(matches!(worker.await.unwrap(), Ended::Revoked));
    loader.alone().await;
    assert_eq!(loader.shared.prefetch.held(), 0);
}

/// A begun batch whose records are gone, and metadata that nobody knows: another look at the same says the same.
#[tokio::test]
async fn one_whose_assignment_cannot_be_taken_up_waits_for_the_next_one() {
    let begun = r#"{"v":1,"e":5,"t":1,"c":"ab"}"#;
    for (metadata, why) in [(begun, "gone by retention"), (r#"{"v":9}"#, "version 9")] {
        let root = tempfile::tempdir().unwrap();
        let loader = Loader::into(root.path());
        let metrics = &loader.shared.metrics;
        metrics.joined(true);
        let (mut assigned, lane) = loader.assign();
        assigned.committed = Some(crate::consume::CommittedOffset {
            offset: 2,
            metadata: metadata.to_owned(),
        });
        assigned.low = 7;
        let worker = loader.run(assigned);
        until("it says why", || says(metrics, why)).await;
        // It has let go of what is fetched for it, and does not try on.
        until("it stands by", || lane.records.is_closed()).await;
        assert!(!worker.is_finished());
        drop(lane);
        assert!(matches!(worker.await.unwrap(), Ended::Revoked));
    }
}

#[tokio::test]
async fn one_that_cannot_take_up_tells_its_lag_and_why_and_goes_on_when_it_can() {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("_headwater");
    std::fs::write(&own, "a file").unwrap();
    let loader = Loader::into(root.path());
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (assigned, lane) = loader.assign();
    let _worker = loader.run(assigned);
    lane.give(0).await;
    let reason = "partition 0 is not loaded: the state cannot be read yet";
    until("it says that it cannot, and what waits", || {
        let reading = metrics.readings(65_005);
        let lag = reading.first().and_then(|reading| reading.lag);
        says(metrics, reason) && lag.is_some_and(|lag| (lag.records, lag.seconds) == (9, 65))
    })
    .await;
    std::fs::remove_file(own).unwrap();
    until("it is loaded", || {
        let reading = metrics.readings(65_005);
        metrics.not_ready().is_none() && reading[0].standing.durable == 1
    })
    .await;
}

/// The group stands at 2, and the topic begins at 7.
#[tokio::test]
async fn what_retention_deleted_before_it_was_read_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let loader = Loader::into(root.path());
    let (mut assigned, lane) = loader.assign();
    assigned.committed = Some(crate::consume::CommittedOffset {
        offset: 2,
        metadata: String::new(),
    });
    assigned.low = 7;
    let _worker = loader.run(assigned);
    lane.give(7).await;
    let metrics = &loader.shared.metrics;
    until("its record is stored", || {
        let reading = metrics.readings(0);
        reading
            .first()
            .is_some_and(|reading| reading.standing.durable == 8)
    })
    .await;
    assert_eq!(metrics.lost_offsets(), 5);
}

#[tokio::test]
async fn one_that_is_told_to_finish_writes_what_is_open_and_takes_no_more() {
    let root = tempfile::tempdir().unwrap();
    let loader = Loader::with(root.path(), 1000, 1 << 20);
    let (assigned, lane) = loader.assign();
    let worker = loader.run(assigned);
    lane.give(0).await;
    until("it is taken in", || {
        let reading = loader.shared.metrics.readings(0);
        reading
            .first()
            .is_some_and(|reading| reading.standing.taken == 1)
    })
    .await;
    lane.tenant.finish();
    until("it ends", || worker.is_finished()).await;
    assert!(matches!(worker.await.unwrap(), Ended::Finished));
    assert_eq!(loader.shared.tally.sum().rows, 1);
    assert!(lane.records.is_closed());
}

/// Its loader is told to stop while it waits to be taken up (its state is not there), with a batch that was begun.
#[tokio::test]
async fn one_that_ends_with_a_begun_batch_says_so() {
    for begun in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let loader = Loader::into(root.path());
        let metrics = &loader.shared.metrics;
        metrics.joined(true);
        let (mut assigned, _lane) = loader.assign();
        let intent = crate::partition::intent::Intent {
            end: 7,
            clock_ms: 1,
            pipeline: "of another version".into(),
            windows: None,
        };
        let committed = Committed {
            offset: 2,
            names_from: 2,
            snapshot: Some(crate::name::snapshot_name(2, 1)),
            intent: begun.then_some(intent),
        };
        assigned.committed = Some(crate::consume::CommittedOffset {
            offset: committed.offset,
            metadata: committed.metadata(),
        });
        let worker = loader.run(assigned);
        until("it cannot be taken up", || metrics.not_ready().is_some()).await;
        loader.stop.send_replace(true);
        let ended = worker.await.unwrap();
        match begun {
            true => assert!(matches!(ended, Ended::Unfinished(0)), "{ended:?}"),
            false => assert!(matches!(ended, Ended::Finished), "{ended:?}"),
        }
    }
}

/// A state that cannot be read as one, and then is mended.
#[tokio::test]
async fn one_with_a_broken_state_waits_for_a_person_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(state_folder("logs", 0));
    std::fs::create_dir_all(&folder).unwrap();
    let state = folder.join(crate::name::snapshot_name(0, 1));
    std::fs::write(&state, "no state").unwrap();
    let loader = Loader::into(root.path());
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (assigned, lane) = loader.assign();
    let worker = loader.run(assigned);
    lane.give(0).await;
    until("it says so", || says(metrics, "damaged")).await;
    assert!(!worker.is_finished());
    std::fs::remove_file(state).unwrap();
    until("it is loaded", || {
        metrics.not_ready().is_none() && loader.shared.tally.sum().rows == 1
    })
    .await;
}

/// Somebody else's object lies under a name of its batch.
#[tokio::test]
async fn one_whose_name_is_taken_is_stopped_and_holds_nothing() {
    let root = tempfile::tempdir().unwrap();
    let name = format!("all/logs+0+{:020}-{:020}+1of1.ndjson.zst", 0, 1);
    let taken = root.path().join(name);
    std::fs::create_dir_all(taken.parent().unwrap()).unwrap();
    std::fs::write(taken, "of somebody else").unwrap();
    let loader = Loader::into(root.path());
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (assigned, lane) = loader.assign();
    let worker = loader.run(assigned);
    lane.give(0).await;
    until("it is stopped", || says(metrics, "holds something else")).await;
    until("it holds nothing", || loader.shared.staging.held().0 == 0).await;
    assert!(!worker.is_finished());
    assert!(lane.records.is_closed());
    drop(lane);
    assert!(matches!(worker.await.unwrap(), Ended::Revoked));
}

/// The group stands behind the end of its partition, before it is taken up or behind that: it takes no more, and
/// whoever takes it away waits for nothing.
#[tokio::test]
async fn one_of_which_nothing_can_be_read_stands_and_says_so() {
    for loads in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("_headwater");
        if !loads {
            std::fs::write(own, "a file").unwrap();
        }
        let loader = Loader::into(root.path());
        let metrics = &loader.shared.metrics;
        metrics.joined(true);
        let (assigned, lane) = loader.assign();
        let worker = loader.run(assigned);
        let until_then = if loads { "ready" } else { "not read yet" };
        until(until_then, || match loads {
            true => metrics.not_ready().is_none(),
            false => says(metrics, "cannot be read yet"),
        })
        .await;
        lane.tenant.stop("the group stands at offset 99".to_owned());
        until("it is said", || {
            says(
                metrics,
                "partition 0 is not loaded: the group stands at offset 99",
            )
        })
        .await;
        until("it takes no more", || lane.records.is_closed()).await;
        let reading = metrics.readings(0).pop().unwrap();
        assert_eq!(
            reading.waits.as_deref(),
            Some("the group stands at offset 99")
        );
        assert!(!worker.is_finished());
        lane.tenant.finish();
        assert!(matches!(worker.await.unwrap(), Ended::Finished));
    }
}

/// A group whose commits end in a panic.
struct Broken;

impl Commit for Broken {
    fn commit(&self, _: i32, _: u64, _: &Committed) -> Result<(), CommitError> {
        panic!("on purpose")
    }

    fn end(&self, _: i32) -> Option<u64> {
        None
    }
}

/// Nor is what panics beside it a reason to take the partitions of others away.
#[tokio::test]
async fn a_task_that_panics_stops_its_partition_alone() {
    let root = tempfile::tempdir().unwrap();
    let loader = Loader::into(root.path());
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (assigned, lane) = loader.assign();
    let worker = tokio::spawn(run(Arc::clone(&loader.shared), Arc::new(Broken), assigned));
    lane.give(0).await;
    until("it stands", || says(metrics, "a task ended early")).await;
    assert!(!worker.is_finished());
}

/// The output refuses its objects, and memory is short: it gives its own, and says why.
#[tokio::test]
async fn one_that_is_refused_gives_its_memory_to_those_that_are_not() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("all"), "a file").unwrap();
    let loader = Loader::patient(root.path(), (1, 1), Duration::ZERO);
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (assigned, lane) = loader.assign();
    let worker = loader.run(assigned);
    lane.give(0).await;
    until("an upload was tried", || metrics.retries.get() > 0).await;
    assert!(!lane.records.is_closed(), "it may work later");
    assert!(loader.shared.staging.held().0 > 0);
    metrics.waits((0, 1), "no right to write".to_owned());
    until("it holds nothing", || loader.shared.staging.held().0 == 0).await;
    let said = metrics.not_ready();
    assert_eq!(
        said.as_deref(),
        Some("partition 0 is not loaded: no right to write\n")
    );
    assert!(lane.records.is_closed() && !worker.is_finished());
}

/// What it writes before it goes is refused: whoever takes the partition away waits for it no longer.
#[tokio::test]
async fn one_that_is_stopped_while_it_finishes_ends() {
    let root = tempfile::tempdir().unwrap();
    let name = format!("all/logs+0+{:020}-{:020}+1of1.ndjson.zst", 0, 1);
    let taken = root.path().join(name);
    std::fs::create_dir_all(taken.parent().unwrap()).unwrap();
    std::fs::write(taken, "of somebody else").unwrap();
    let loader = Loader::with(root.path(), 1000, 1 << 20);
    let (assigned, lane) = loader.assign();
    let worker = loader.run(assigned);
    lane.give(0).await;
    until("it is taken in", || loader.shared.staging.held().0 > 0).await;
    lane.tenant.finish();
    until("it ends", || worker.is_finished()).await;
    assert!(matches!(worker.await.unwrap(), Ended::Unfinished(0)));
}

/// It was taken up with an hour to be marked, and the output refuses the mark.
#[tokio::test]
async fn one_whose_accounts_are_refused_gives_its_memory_too() {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("_headwater");
    let (mut books, ledger) = (Books::default(), Ledger::default());
    for hour in 0..2 {
        books.open(Opening {
            who: ("logs", 0),
            asked: AccountsFile {
                hourly_markers: true,
                ..AccountsFile::default()
            },
            clock_ms: hour * 3_600_000,
            at: 0,
            ledger: &ledger,
        });
    }
    let state = State {
        topic: "logs",
        partition: 0,
        end: 5,
        clock_ms: 3_600_000,
        rows_ms: 3_600_000,
        named: None,
        ledger: &ledger,
        windows: &Windows::default(),
        books: &books,
    };
    let (name, bytes) = state.encode().unwrap();
    let folder = root.path().join(state_folder("logs", 0));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&name), bytes).unwrap();
    std::fs::write(own.join("complete"), "a file").unwrap();
    let loader = Loader::patient(root.path(), (1, 1), Duration::ZERO);
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (mut assigned, lane) = loader.assign();
    let committed = Committed {
        offset: 5,
        names_from: 5,
        snapshot: Some(name),
        intent: None,
    };
    assigned.committed = Some(crate::consume::CommittedOffset {
        offset: 5,
        metadata: committed.metadata(),
    });
    let worker = loader.run(assigned);
    until("a mark was tried", || metrics.retries.get() > 0).await;
    assert!(loader.shared.staging.held().0 > 0 && !lane.records.is_closed());
    metrics.waits((0, 1), "no right to write".to_owned());
    until("it holds nothing", || loader.shared.staging.held().0 == 0).await;
    assert!(lane.records.is_closed() && !worker.is_finished());
}

/// Nor is anything stopped for a refusal that passes, however short memory is.
#[tokio::test]
async fn one_that_was_refused_for_a_moment_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("all");
    std::fs::write(&file, "a file").unwrap();
    let loader = Loader::patient(root.path(), (1, 1), Duration::from_secs(3600));
    let metrics = &loader.shared.metrics;
    metrics.joined(true);
    let (assigned, lane) = loader.assign();
    let _worker = loader.run(assigned);
    lane.give(0).await;
    until("an upload was tried", || metrics.retries.get() > 0).await;
    metrics.waits((0, 1), "not now".to_owned());
    // It looks at what it holds, and keeps it.
    lane.give(1).await;
    let tried = metrics.retries.get() + 2;
    until("it tries on", || metrics.retries.get() >= tried).await;
    assert!(!lane.records.is_closed() && loader.shared.staging.held().0 > 0);
    std::fs::remove_file(file).unwrap();
    until("both are loaded", || loader.shared.tally.sum().rows == 2).await;
    assert_eq!(metrics.not_ready(), None);
}

/// An object that was refused and then is stored keeps nothing waiting for the others of its batch.
#[tokio::test]
async fn what_was_refused_and_is_stored_is_no_trouble_any_more() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("all");
    std::fs::write(&file, "a file").unwrap();
    let loader = Loader::into(root.path());
    let (assigned, _lane) = loader.assign();
    let seat = Seat::take(&loader.shared, &assigned);
    seat.goes_on();
    let bytes = bytes::Bytes::from_static(b"{}\n");
    let object = Object {
        key: "all/of/it.ndjson".to_owned(),
        content: plain_content(&bytes),
        bytes,
    };
    let metrics = &loader.shared.metrics;
    let mend = async {
        until("it is refused", || metrics.why_it_waits(seat.who).is_some()).await;
        std::fs::remove_file(&file).unwrap();
    };
    let (stored, ()) = tokio::join!(put(&loader.shared, &object, seat.who, 0), mend);
    assert!(stored.is_ok());
    assert_eq!(metrics.why_it_waits(seat.who), None);
}

/// A panic is a trouble like another. It was at work when it came: what stands by for it does not hang.
#[tokio::test]
async fn one_that_panicked_looks_no_more_and_is_stopped() {
    let root = tempfile::tempdir().unwrap();
    let loader = Loader::into(root.path());
    let (assigned, _lane) = loader.assign();
    let seat = Seat::take(&loader.shared, &assigned);
    let metrics = &loader.shared.metrics;
    let hangs = async || {
        tokio::time::sleep(Duration::from_millis(5)).await;
        metrics.hung(0).map(|(partition, _)| partition)
    };
    seat.stands(Standing::default());
    assert_eq!(hangs().await, Some(0));
    let panics = async {
        tokio::task::yield_now().await;
        panic!("in the middle of it")
    };
    let Ended::Stopped(reason) = caught(&seat, panics).await else {
        panic!("it is stopped")
    };
    assert!(reason.contains("its worker panicked"), "{reason}");
    assert_eq!(hangs().await, None);
}
