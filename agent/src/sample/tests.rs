use std::path::Path;
use std::sync::Mutex;

use glob::Pattern;
use headwater_record::{Generation, Kind};
use tokio::sync::mpsc::{self, Receiver};

use super::*;
use crate::checkpoint::{FileIdentity, Marker, StoreStopped};

#[derive(Debug, Clone, Default)]
struct Registered(Arc<Mutex<Vec<OpenGeneration>>>);

impl Registry for Registered {
    fn register(&self, new: &[OpenGeneration]) -> Result<(), StoreStopped> {
        self.0.lock().unwrap().extend_from_slice(new);
        Ok(())
    }

    fn identify(&self, _: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped> {
        panic!("a sensor has no identity")
    }

    fn cut(&self, _: Generation, _: u64) -> Result<(), StoreStopped> {
        panic!("a sensor has no lines")
    }

    fn mark(&self, _: Generation, _: Marker) {
        panic!("a sensor has no bytes")
    }
}

struct Rig {
    sensors: Sensors<Registered>,
    receiver: Receiver<Batch>,
    registered: Registered,
    budget: Budget,
    counters: Arc<Counters>,
}

fn rig(folder: &Path, known: Vec<OpenGeneration>) -> Rig {
    let (batches, receiver) = mpsc::channel(64);
    let (registered, counters) = (Registered::default(), Arc::new(Counters::default()));
    let budget = Budget::new(2 * SAMPLE_BYTES);
    let glob = format!("{}/*/value", folder.display());
    let input = SensorsInput {
        device: "pi-7".parse().unwrap(),
        sources: vec![SensorSource {
            id: "cpu".parse().unwrap(),
            paths: vec![Pattern::new(&glob).unwrap()],
            interval: Duration::from_secs(10),
            scale: 0.001,
            offset: 1.0,
            unit: None,
        }],
        known,
        registry: registered.clone(),
        budget: budget.clone(),
        batches,
        stop: Stop::new(),
        counters: Arc::clone(&counters),
    };
    Rig {
        sensors: Sensors::new(input, Monotonic(0)),
        receiver,
        registered,
        budget,
        counters,
    }
}

impl Rig {
    /// Ticks at `seconds`, and returns what came of it: kind, span, value's end.
    fn tick(&mut self, seconds: u64) -> Vec<(Kind, u64, u64, String)> {
        self.sensors.tick(Monotonic(seconds * 1000)).unwrap();
        self.take()
    }

    fn take(&mut self) -> Vec<(Kind, u64, u64, String)> {
        let mut records = Vec::new();
        while let Ok(batch) = self.receiver.try_recv() {
            let registered = self.registered.0.lock().unwrap();
            assert!(
                registered
                    .iter()
                    .any(|open| open.generation == batch.generation)
            );
            for record in batch.records() {
                let value: serde_json::Value = serde_json::from_slice(record.value).unwrap();
                let shown = value.get("value").or(value.get("reason")).unwrap();
                let (start, end) = (record.span.start(), record.span.end());
                records.push((record.kind, start, end, shown.to_string()));
            }
        }
        records
    }
}

fn write(folder: &Path, sensor: &str, text: &str) {
    std::fs::create_dir_all(folder.join(sensor)).unwrap();
    std::fs::write(folder.join(sensor).join("value"), text).unwrap();
}

#[test]
fn samples_are_numbered_scaled_and_in_step() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "48000\n");
    let mut rig = rig(folder.path(), Vec::new());
    assert_eq!(rig.tick(0), [(Kind::Data, 0, 1, "49.0".into())]);
    assert_eq!(rig.tick(9), []);
    // The file is gone, or holds something else: no sample, no number.
    write(folder.path(), "a", "error");
    assert_eq!(rig.tick(10), []);
    write(folder.path(), "a", "1000");
    assert_eq!(rig.tick(1000), [(Kind::Data, 1, 2, "2.0".into())]);
    assert_eq!(rig.tick(1001), []);
    // One that was plugged in is found, and has numbers of its own.
    write(folder.path(), "b", "0");
    let both = [
        (Kind::Data, 2, 3, "2.0".into()),
        (Kind::Data, 0, 1, "1.0".into()),
    ];
    assert_eq!(rig.tick(1010), both);
    rig.sensors.close().unwrap();
    let closed = |at| (Kind::Close, at, at, "\"stopped\"".to_owned());
    assert_eq!(rig.take(), [closed(3), closed(1)]);
    assert_eq!(rig.counters.taken.load(Ordering::Relaxed), 4);
}

#[test]
fn without_room_a_sample_is_lost_and_told() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig(folder.path(), Vec::new());
    let full = rig.budget.try_take(usize::MAX);
    assert_eq!(rig.tick(0), []);
    assert_eq!(rig.tick(10), []);
    drop(full);
    let told = [
        (Kind::Loss, 0, 2, "\"window-full\"".into()),
        (Kind::Data, 2, 3, "1.0".into()),
    ];
    assert_eq!(rig.tick(20), told);
    assert_eq!(rig.counters.lost.load(Ordering::Relaxed), 2);
    assert_eq!(rig.counters.taken.load(Ordering::Relaxed), 3);
    assert_eq!(rig.budget.used(), 0, "what was received is given back");
}

#[test]
fn what_an_earlier_run_left_open_is_closed_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let open = OpenGeneration {
        generation: Generation(7),
        stream: StreamId::parse("pi-6/old//sys/temp").unwrap(),
        origin: Origin::Sensor,
        settled: 41,
        skip_to: None,
        cut: None,
        marker: None,
    };
    let mut rig = rig(folder.path(), vec![open.clone()]);
    rig.registered.register(&[open]).unwrap();
    let full = rig.budget.try_take(usize::MAX);
    assert_eq!(rig.tick(0), []);
    assert!(rig.sensors.idle_for(Monotonic(0)) <= PATIENCE);
    drop(full);
    assert_eq!(rig.tick(1), [(Kind::Close, 41, 41, "\"unclean\"".into())]);
    assert_eq!(rig.tick(2), []);
}
