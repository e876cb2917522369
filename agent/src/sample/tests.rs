use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use glob::Pattern;
use headwater_record::{Generation, Kind as Is, StreamId};
use tokio::sync::mpsc::{self, Receiver};

use super::policy::{Deadband, Policy, Rollup, RollupWhen};
use super::read::{Kind, Reader};
use super::reading::Conversion;
use super::schedule::Beat;
use super::*;
use crate::checkpoint::{Entered, FileIdentity, Knowledge, Marker, Refused, StoreStopped};

/// What was entered, and whether the disk refuses.
#[derive(Debug, Clone, Default)]
struct Registered(Arc<Mutex<Vec<OpenGeneration>>>, Arc<AtomicBool>);

impl Registry for Registered {
    fn register(&self, new: &[OpenGeneration]) -> Result<(), StoreStopped> {
        self.0.lock().unwrap().extend_from_slice(new);
        Ok(())
    }

    fn try_register(&self, new: &[OpenGeneration]) -> Result<Entered, StoreStopped> {
        if self.1.load(Ordering::Relaxed) {
            return Ok(Err(Refused("the disk is full")));
        }
        self.register(new).map(Ok)
    }

    fn identify(&self, _: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped> {
        panic!("a sensor has no identity")
    }

    fn cut(&self, _: Generation, _: u64) -> Result<(), StoreStopped> {
        panic!("a sensor has no lines")
    }

    fn mark_entry(&self, _: Generation, _: Marker, _: Marker) {
        panic!("a sensor has no entries")
    }

    fn mark(&self, _: Generation, _: Marker, _: u64) {
        panic!("a sensor has no bytes")
    }
}

struct Rig {
    sensors: Sensors<Registered>,
    receiver: Receiver<Batch>,
    registered: Registered,
    budget: Budget,
    counters: Arc<Counters>,
    offline: Arc<AtomicBool>,
}

fn rig(folder: &Path, known: Vec<OpenGeneration>) -> Rig {
    rig_with(folder, known, |_| {})
}

fn rig_with(
    folder: &Path,
    known: Vec<OpenGeneration>,
    change: impl FnOnce(&mut SensorSource),
) -> Rig {
    let (batches, receiver) = mpsc::channel(64);
    let (registered, counters) = (Registered::default(), Arc::new(Counters::default()));
    let budget = Budget::new(2 * SAMPLE_BYTES);
    let offline = Arc::new(AtomicBool::new(false));
    let glob = format!("{}/*/value", folder.display());
    let mut source = SensorSource {
        lane: Lane::Normal,
        id: "cpu".parse().unwrap(),
        paths: vec![Pattern::new(&glob).unwrap()],
        reader: Reader {
            kind: Kind::Number,
            command: None,
            pointer: String::new(),
            column: String::new(),
            separator: b',',
            dev: "/dev".into(),
        },
        beat: Beat {
            interval: Duration::from_secs(10),
            jitter: Duration::ZERO,
            aligned: false,
        },
        conversion: Conversion {
            scale: 0.001,
            offset: 1.0,
            min: None,
            max: Some(100.0),
        },
        unit: None,
        policy: Policy {
            deadband: None,
            heartbeat: Duration::from_secs(600),
            rollup: None,
        },
        stale_after: None,
    };
    change(&mut source);
    let input = SensorsInput {
        device: "pi-7".parse().unwrap(),
        sources: vec![source],
        known,
        orders: Orders::default(),
        registry: registered.clone(),
        budget: budget.clone(),
        batches,
        stop: Stop::new(),
        counters: Arc::clone(&counters),
        offline: Arc::clone(&offline),
    };
    Rig {
        sensors: Sensors::new(input, Monotonic(0)),
        receiver,
        registered,
        budget,
        counters,
        offline,
    }
}

impl Rig {
    /// Ticks at `seconds`, and returns what came of it: kind, span, value's end.
    fn tick(&mut self, seconds: u64) -> Vec<(Is, u64, u64, String)> {
        self.sensors.tick(Monotonic(seconds * 1000)).unwrap();
        self.take()
    }

    fn take(&mut self) -> Vec<(Is, u64, u64, String)> {
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
                let shown = value
                    .get("value")
                    .or(value.get("mean"))
                    .or(value.get("reason"));
                let quality = value["quality"].as_str().unwrap_or("ok");
                let shown = match quality {
                    "ok" => shown.unwrap().to_string(),
                    quality => format!("{} {quality}", shown.unwrap()),
                };
                let (start, end) = (record.span.start(), record.span.end());
                records.push((record.kind, start, end, shown));
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
    assert_eq!(rig.tick(0), [(Is::Data, 0, 1, "49.0".into())]);
    assert_eq!(rig.tick(9), []);
    // The file is gone, or holds something else: that is told once.
    write(folder.path(), "a", "error");
    assert_eq!(rig.tick(10), [(Is::Data, 1, 2, "null missing".into())]);
    std::fs::remove_file(folder.path().join("a/value")).unwrap();
    assert_eq!(rig.tick(20), []);
    write(folder.path(), "a", "100000");
    assert_eq!(rig.tick(30), [(Is::Data, 2, 4, "101.0 range".into())]);
    write(folder.path(), "a", "1000");
    // Nothing is made up for after a suspend.
    assert_eq!(rig.tick(1000), [(Is::Data, 4, 5, "2.0".into())]);
    assert_eq!(rig.tick(1001), []);
    // One that was plugged in is found, and has numbers of its own.
    write(folder.path(), "b", "0");
    let both = [
        (Is::Data, 5, 6, "2.0".into()),
        (Is::Data, 0, 1, "1.0".into()),
    ];
    assert_eq!(rig.tick(1010), both);
    rig.sensors.close().unwrap();
    let closed = |at| (Is::Close, at, at, "\"stopped\"".to_owned());
    assert_eq!(rig.take(), [closed(6), closed(1)]);
    assert_eq!(rig.counters.taken.load(Ordering::Relaxed), 7);
}

#[test]
fn without_room_a_sample_is_lost_and_told() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig(folder.path(), Vec::new());
    let full = rig.budget.try_take(Lane::Normal, usize::MAX);
    assert_eq!(rig.tick(0), []);
    assert_eq!(rig.tick(10), []);
    drop(full);
    let told = [
        (Is::Loss, 0, 2, "\"window-full\"".into()),
        (Is::Data, 2, 3, "1.0".into()),
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
        cuts: Vec::new(),
        marker: None,
        earlier: Vec::new(),
        goes_on: None,
    };
    let mut rig = rig(folder.path(), vec![open.clone()]);
    rig.registered.register(&[open]).unwrap();
    let full = rig.budget.try_take(Lane::Normal, usize::MAX);
    assert_eq!(rig.tick(0), []);
    assert!(rig.sensors.idle_for(Monotonic(0)) <= PATIENCE);
    drop(full);
    assert_eq!(rig.tick(1), [(Is::Close, 41, 41, "\"unclean\"".into())]);
    assert_eq!(rig.tick(2), []);
}

#[test]
fn a_roll_up_takes_over_while_the_broker_is_away() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig_with(folder.path(), Vec::new(), |source| {
        source.policy.rollup = Some(Rollup {
            window: Duration::from_secs(20),
            when: RollupWhen::Offline,
        });
    });
    assert_eq!(rig.tick(0), [(Is::Data, 0, 1, "1.0".into())]);
    rig.offline.store(true, Ordering::Relaxed);
    assert_eq!(rig.tick(10), []);
    write(folder.path(), "a", "3000");
    assert_eq!(rig.tick(20), []);
    assert_eq!(rig.tick(30), [(Is::Data, 1, 4, "3.0".into())]);
    assert_eq!(rig.tick(40), []);
    rig.offline.store(false, Ordering::Relaxed);
    let both = [
        (Is::Data, 4, 5, "4.0".into()),
        (Is::Data, 5, 6, "4.0".into()),
    ];
    assert_eq!(rig.tick(50), both);
    rig.offline.store(true, Ordering::Relaxed);
    rig.tick(60);
    rig.sensors.close().unwrap();
    let end = [
        (Is::Data, 6, 7, "4.0".into()),
        (Is::Close, 7, 7, "\"stopped\"".into()),
    ];
    assert_eq!(rig.take(), end, "a window under way is told at the end");
}

#[test]
fn what_a_command_prints_is_a_sensor() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig_with(folder.path(), Vec::new(), |source| {
        source.reader.command = Some(["/bin/echo", "48000 C"].map(String::from).to_vec());
    });
    assert_eq!(rig.tick(0), [(Is::Data, 0, 1, "49.0".into())]);
    let stream = rig.registered.0.lock().unwrap()[0].stream.clone();
    assert_eq!(stream.as_str(), "pi-7/cpu/command");
}

#[test]
fn what_was_written_long_ago_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig_with(folder.path(), Vec::new(), |source| {
        source.stale_after = Some(Duration::from_secs(3600));
    });
    assert_eq!(rig.tick(0), [(Is::Data, 0, 1, "1.0".into())]);
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path().join("a/value"));
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    file.unwrap().set_modified(long_ago).unwrap();
    assert_eq!(rig.tick(10), [(Is::Data, 1, 2, "1.0 stale".into())]);
}

#[test]
fn beside_a_changed_source_a_window_and_a_dead_band_go_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig_with(folder.path(), Vec::new(), |source| {
        source.id = "changes".parse().unwrap();
    });
    let mut window = rig.sensors.groups[0].plan.clone();
    window.id = "window".parse().unwrap();
    window.policy.rollup = Some(Rollup {
        window: Duration::from_secs(20),
        when: RollupWhen::Always,
    });
    let mut band = rig.sensors.groups[0].plan.clone();
    band.id = "band".parse().unwrap();
    band.policy.deadband = Some(Deadband::Absolute(5.0));
    rig.sensors.take_up(vec![window, band], Monotonic(0));
    let ok = |start, end| (Is::Data, start, end, "1.0".to_owned());
    assert_eq!(rig.tick(0), [ok(0, 1), ok(0, 1)], "the window waits");
    assert_eq!(rig.tick(10), [ok(1, 2)]);

    let (done, mut answer) = tokio::sync::oneshot::channel();
    let mut plan = rig.sensors.groups[0].plan.clone();
    let sources = vec![plan.id.clone()];
    let order = Order::LetGo { sources, done };
    rig.sensors.obey(order, Monotonic(12_000)).unwrap();
    assert_eq!(answer.try_recv(), Ok(()));
    let closed = (Is::Close, 2, 2, "\"stopped\"".to_owned());
    assert_eq!(rig.take(), [closed], "before the answer");
    plan.conversion.max = None;
    let order = Order::TakeUp {
        sources: vec![plan],
        known: Knowledge::default(),
    };
    rig.sensors.obey(order, Monotonic(13_000)).unwrap();
    // A generation of its own begins; nothing is told of the two that went on.
    assert_eq!(rig.tick(13), [ok(0, 1)]);
    assert_eq!(rig.tick(20), [ok(0, 3)], "all of the window");
    assert_eq!(rig.registered.0.lock().unwrap().len(), 4);
}

#[test]
fn an_hour_asleep_is_one_reading_and_ends_windows_and_heartbeats() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig_with(folder.path(), Vec::new(), |source| {
        source.policy.deadband = Some(Deadband::Absolute(5.0));
    });
    let mut window = rig.sensors.groups[0].plan.clone();
    window.id = "window".parse().unwrap();
    window.policy.rollup = Some(Rollup {
        window: Duration::from_secs(300),
        when: RollupWhen::Always,
    });
    rig.sensors.take_up(vec![window], Monotonic(0));
    let told = |start, end| (Is::Data, start, end, "1.0".to_owned());
    assert_eq!(rig.tick(0), [told(0, 1)]);
    assert_eq!(rig.tick(10), []);
    // It has not moved, and its heartbeat of ten minutes is over; so is the window of five.
    assert_eq!(rig.tick(3610), [told(1, 3), told(0, 3)]);
    assert_eq!(rig.tick(3611), []);
    assert_eq!(rig.sensors.idle_for(Monotonic(3_611_000)).as_secs(), 9);
}

/// Three channels of acceleration, and the time of each scan by the clock of the boot; a hundred scans a
/// second, as the kernel has collected them within ten.
fn ten_seconds_of_scans(folder: &Path, now: Monotonic) {
    let device = folder.join("iio:device0");
    std::fs::create_dir_all(device.join("scan_elements")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(device.join(name), text).unwrap();
    write("name", "lis3dh_accel\n");
    write("current_timestamp_clock", "boottime\n");
    let channels = [
        ("accel_x", "le:s16/16>>0\n"),
        ("accel_y", "le:s16/16>>0\n"),
        ("accel_z", "le:s16/16>>0\n"),
        ("timestamp", "le:s64/64>>0\n"),
    ];
    for (index, (channel, layout)) in channels.iter().enumerate() {
        write(&format!("scan_elements/in_{channel}_en"), "1\n");
        write(
            &format!("scan_elements/in_{channel}_index"),
            &index.to_string(),
        );
        write(&format!("scan_elements/in_{channel}_type"), layout);
    }
    let scan = |n: u64| {
        let stamp_ms = now.0 - 10 * (999 - n);
        let number = i16::try_from(n).unwrap().to_le_bytes();
        let numbers = [number, number, number, [0; 2]].concat();
        [numbers, (stamp_ms * 1_000_000).to_le_bytes().to_vec()].concat()
    };
    let scans: Vec<u8> = (0..1000).flat_map(scan).collect();
    std::fs::create_dir_all(folder.join("dev")).unwrap();
    std::fs::write(folder.join("dev/iio:device0"), scans).unwrap();
}

#[test]
fn what_a_buffer_collected_is_a_few_batches_and_each_sample_has_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let now = boottime();
    ten_seconds_of_scans(folder.path(), now);
    let mut rig = rig_with(folder.path(), Vec::new(), |source| {
        let glob = format!(
            "{}/iio:*/scan_elements/in_accel_*_en",
            folder.path().display()
        );
        source.paths = vec![Pattern::new(&glob).unwrap()];
        source.reader.kind = Kind::IioBuffer;
        source.reader.dev = folder.path().join("dev");
        source.conversion.max = None;
    });
    // A batch for each sample would be more than this holds.
    rig.sensors.budget = Budget::new(1 << 20);
    rig.sensors.tick(now).unwrap();
    let mut batches: Vec<Batch> = Vec::new();
    while let Ok(batch) = rig.receiver.try_recv() {
        batches.push(batch);
    }
    assert_eq!(rig.counters.taken.load(Ordering::Relaxed), 3000);
    assert_eq!(rig.counters.lost.load(Ordering::Relaxed), 0);
    assert_eq!(
        batches.len(),
        9,
        "a thousand of each channel, in full batches"
    );
    for channel in batches.chunks(3) {
        let records = channel.iter().flat_map(Batch::records);
        let times: Vec<_> = records
            .map(|record| {
                let value: serde_json::Value = serde_json::from_slice(record.value).unwrap();
                let time: jiff::Timestamp = value["time"].as_str().unwrap().parse().unwrap();
                time.as_millisecond()
            })
            .collect();
        assert_eq!(times.len(), 1000);
        assert!(
            times.windows(2).all(|two| two[1] - two[0] == 10),
            "{times:?}"
        );
    }
}

/// Puts what is no file in the place of a sensor's.
fn put(folder: &Path, sensor: &str, what: &str) {
    let path = folder.join(sensor).join("value");
    std::fs::create_dir_all(folder.join(sensor)).unwrap();
    std::fs::remove_file(&path).ok();
    match what {
        "FIFO" => {
            let made = Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        }
        // Its name stays when it is closed.
        "socket" => drop(UnixListener::bind(&path).unwrap()),
        "directory" => std::fs::create_dir(&path).unwrap(),
        "device" => symlink("/dev/zero", &path).unwrap(),
        "loop" => symlink(&path, &path).unwrap(),
        what => panic!("{what}?"),
    }
}

/// Linux, asm-generic/fcntl.h.
const O_NONBLOCK: i32 = 0o4000;
const NO_FILES: [&str; 5] = ["FIFO", "socket", "device", "loop", "directory"];

/// Nobody writes to the FIFO, so whoever opened it as a file would wait for ever.
#[test]
fn what_is_no_file_is_no_sensor_and_holds_up_none() {
    let folder = tempfile::tempdir().unwrap();
    for what in NO_FILES {
        put(folder.path(), what, what);
    }
    write(folder.path(), "z", "20000");
    let mut rig = rig(folder.path(), Vec::new());
    assert_eq!(rig.tick(0), [(Is::Data, 0, 1, "21.0".into())]);
    assert_eq!(rig.registered.0.lock().unwrap().len(), 1);
}

#[test]
fn a_sensor_whose_file_is_none_any_more_has_no_reading_and_nothing_is_taken_from_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "20000");
    let mut rig = rig(folder.path(), Vec::new());
    rig.tick(0);
    let path = folder.path().join("a/value");
    for (nth, what) in (1..).zip(NO_FILES) {
        put(folder.path(), "a", what);
        // A number lies in it, for whom it was written for.
        let fed = (what == "FIFO").then(|| {
            let mut both = std::fs::File::options();
            let both = both.read(true).write(true).custom_flags(O_NONBLOCK);
            let mut fed = both.open(&path).unwrap();
            fed.write_all(b"48000\n").unwrap();
            fed
        });
        let (at, offset) = (20 * nth, 2 * nth - 1);
        let told = rig.tick(at);
        assert_eq!(
            told,
            [(Is::Data, offset, offset + 1, "null missing".into())],
            "{what}"
        );
        if let Some(mut fed) = fed {
            let mut held = [0; 6];
            fed.read_exact(&mut held).unwrap();
            assert_eq!(&held, b"48000\n");
        }
        if what != "directory" {
            std::fs::remove_file(&path).unwrap();
            write(folder.path(), "a", "20000");
            let told = rig.tick(at + 10);
            assert_eq!(told, [(Is::Data, offset + 1, offset + 2, "21.0".into())]);
        }
    }
}

#[test]
fn where_the_disk_refuses_a_new_sensor_the_others_and_a_reload_go_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "0");
    let mut rig = rig_with(folder.path(), Vec::new(), |_| {});
    let ok = |start, end| (Is::Data, start, end, "1.0".to_owned());
    assert_eq!(rig.tick(0), [ok(0, 1)]);
    rig.registered.1.store(true, Ordering::Relaxed);
    write(folder.path(), "b", "0");
    assert_eq!(rig.tick(10), [ok(1, 2)]);
    let mut other = rig.sensors.groups[0].plan.clone();
    other.id = "other".parse().unwrap();
    rig.sensors.take_up(vec![other], Monotonic(10_000));
    assert_eq!(rig.tick(15), []);
    let (done, mut answer) = tokio::sync::oneshot::channel();
    let sources = vec!["other".parse().unwrap()];
    let order = Order::LetGo { sources, done };
    rig.sensors.obey(order, Monotonic(16_000)).unwrap();
    assert_eq!(answer.try_recv(), Ok(()));
    rig.registered.1.store(false, Ordering::Relaxed);
    assert_eq!(rig.tick(20), [ok(2, 3), ok(0, 1)], "the new one, too");
}
