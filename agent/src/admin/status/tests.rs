use super::*;
use crate::delivery::uplink::By;
use headwater_msk::credentials::health::Failure;

fn uplink() -> Uplink {
    Uplink {
        bytes: Some(2 << 20),
        budgets: (Period::ALL.into_iter())
            .map(|period| BudgetUse {
                period,
                used_bytes: 1 << 20,
                max_bytes: 50 << 20,
                ends_ms: 1_795_583_400_000,
            })
            .collect(),
        gate: Gate {
            open: true,
            by: Some(By::Hours),
            changes_in_ms: Some(7_200_000),
            limited: true,
        },
    }
}

fn spool() -> Spool {
    Spool {
        batches: 2,
        bytes: 20_480,
        bytes_max: 1 << 30,
        oldest_ms: Some(61_000),
        full: false,
        refuses: None,
        salvage: None,
        free: Some(Free {
            bytes: 3 << 30,
            inodes: Some(123_456),
        }),
        floors: Floors {
            bytes: 64 << 20,
            inodes: 1000,
        },
    }
}

fn files() -> Files {
    Files {
        followed: 12,
        skipped: 3,
        given_up: 2,
        given_up_bytes: 3 << 20,
        out_of_reach: 1,
        behind: 2,
        unread_bytes: 1_288_491,
        furthest: vec![
            Behind {
                stream: "pi-7/app//var/log/a.log".into(),
                unread_bytes: 1_288_490,
            },
            Behind {
                stream: "pi-7/app//var/log/a\nb.log".into(),
                unread_bytes: 1,
            },
        ],
    }
}

fn losses() -> BTreeMap<String, u64> {
    let losses = [("nul-run", 1), ("rate-limited", 3)];
    losses
        .map(|(reason, count)| (reason.to_owned(), count))
        .into()
}

const BROKER: Broker = Broker {
    online: true,
    acknowledged_ms_ago: Some(812),
    refused_batches: 6,
};

fn lines() -> BTreeMap<String, Tally> {
    let app = Tally {
        filtered: 4_711,
        unparsed: 12,
        repeated: 3,
        limited: 2,
        too_large: 1,
    };
    let journal = Tally {
        unparsed: 8,
        ..Tally::default()
    };
    let quiet = Tally::default();
    [("app", app), ("journal", journal), ("quiet", quiet)]
        .map(|(source, tally)| (source.to_owned(), tally))
        .into()
}

pub(in crate::admin) fn example() -> Status {
    Status {
        version: "0.1.0".into(),
        device: "pi-7".into(),
        up_ms: 93_784_000,
        stuck: None,
        clock_unset: false,
        broker: BROKER,
        credentials: Some(Health {
            source: "the AWS IoT credential provider".into(),
            valid: true,
            left_ms: Some(3_141_000),
            clock_offset_ms: Some(-812),
            fetched: 12,
            tokens: 99,
            ..Health::default()
        }),
        counters: Counters {
            records: 1_234_567,
            bytes: 251_658_240,
            batches: 4825,
            sent: 4830,
            delivered: 4823,
            spooled: 7,
            checkpoints: 31,
            retries: 5,
            recreated: 1,
            refused: 2,
            lost: 3,
            uplink_changes: 6,
            ..Counters::default()
        },
        samples: Samples {
            taken: 900,
            lost: 1,
        },
        files: files(),
        window: Window {
            bytes: 133_120,
            bytes_max: 4 << 20,
        },
        spool: spool(),
        process: Process {
            rss_bytes: 20 << 20,
            cpu_ms: 12_340,
            written_bytes: 3 << 20,
            open_files: 17,
            open_files_max: 1024,
            threads: 6,
            wakeups: 4711,
            preemptions: 12,
            nice: 5,
            cpu_quota_cores: Some(0.2),
            cpu_held_up_ms: Some(1500),
        },
        uplink: uplink(),
        flash_left_bytes: Some(12 << 20),
        flash_debt_bytes: Some(0),
        flash_max_bytes: Some(20 << 20),
        memory_max_bytes: Some(48 << 20),
        losses: losses(),
        lines: lines(),
        reloads: Reloads {
            taken: 2,
            refused: 1,
            last_refused: true,
        },
        tap_missed: 4,
    }
}

#[test]
fn a_person_reads_it() {
    assert_eq!(
        example().to_string(),
        "headwater-agent 0.1.0 on pi-7, up 1 d 2 h\n\
         pipeline    moves, or knows why not\n\
         broker      online, acknowledged last 0.8 s ago\n\
         refused     6 batches by the broker, the log says why; they wait and are sent again\n\
         credentials end in 52 min 21 s; 12 times fetched, 0 times not, from the AWS IoT credential provider\n\
         read        1234567 records, 240.0 MiB in 4825 batches\n\
         delivered   4823 batches; 5 sent again, 2 refused by the disk\n\
         files       12 followed; 3 passed over, the log says why; \
         2 deleted ones GIVEN UP for the disk, 3.0 MiB unread; 1 OUT OF REACH, the log says why\n            \
         1.2 MiB of 2 not read yet: most of pi-7/app//var/log/a.log (1.2 MiB), pi-7/app//var/log/a b.log (1 B)\n\
         sensors     900 samples taken, 1 lost\n\
         LOST        1 times nul-run, 3 times rate-limited (notices say what)\n\
         steps       app: 4711 dropped, 12 not parsed, 3 repeats, 2 above the rate limit, 1 TOO LARGE\n            \
         journal: 8 not parsed\n\
         window      130.0 KiB of 4MiB\n\
         spool       2 batches, 20.0 KiB of 1GiB, oldest 1 min 1 s\n\
         disk        3.0 GiB free of which 64MiB are kept, 123456 inodes of which 1000 are kept\n\
         uplink      open for 2 h 0 min (uplink.hours); it changed 6 times\n\
         uplink      1.0 MiB of 50MiB (2 %) used of uplink.bytes_per_hour\n\
         uplink      1.0 MiB of 50MiB (2 %) used of uplink.bytes_per_day\n\
         uplink      1.0 MiB of 50MiB (2 %) used of uplink.bytes_per_month\n\
         flash       12.0 MiB of 20MiB left of flash.bytes_per_day\n\
         config      the last new one was REFUSED: the one before it is in force\n\
         process     20.0 MiB of 48MiB of memory, 12.3 s of CPU, 3.0 MiB written to storage, 17 open files\n"
    );
    let mut worse = example();
    worse.stuck = Some("the disk hangs".into());
    worse.spool.full = true;
    worse.flash_debt_bytes = Some(2048);
    worse.uplink.gate = Gate {
        open: false,
        by: Some(By::Cycle),
        changes_in_ms: Some(61_000),
        limited: true,
    };
    worse.broker = Broker {
        online: false,
        acknowledged_ms_ago: None,
        refused_batches: 0,
    };
    worse.credentials = Some(Health {
        clock_offset_ms: Some(7200),
        failures: 3,
        last_failure: Some(Failure {
            reason: "status 500:\nAWS has trouble".into(),
            ago_ms: 61_000,
            mended: false,
        }),
        ..Health::default()
    });
    let text = worse.to_string();
    for line in [
        "credentials NONE, nothing is sent; 0 times fetched, 3 times not,",
        "            failed 1 min 1 s ago and not mended: status 500: AWS has trouble\n",
        "spool       FULL: 2 batches, ",
        "left of flash.bytes_per_day, 2.0 KiB OVERDRAWN\n",
        "uplink      CLOSED for 1 min 1 s by uplink.session = \"cycle\"; it changed 6 times\n",
        "pipeline    STUCK: the disk hangs\n",
        "broker      OFFLINE, nothing acknowledged since the start\n",
        "clock       7.2 s behind AWS's: tokens are signed with the corrected time, set the clock\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_spool_in_trouble_says_so() {
    let mut worse = example();
    worse.spool.refuses = Some("the file system is read-only".into());
    worse.spool.salvage = Some(Salvage {
        bytes: 12 << 20,
        bytes_all: 1 << 30,
    });
    let text = worse.to_string();
    for line in [
        "            REFUSES: the file system is read-only; what waits for it is tried again\n",
        "            DAMAGED, and being salvaged: 12.0 MiB of 1.0 GiB looked at; nothing is committed meanwhile\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_program_reads_it() {
    let json = serde_json::to_string(&example()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), example());
}

#[test]
fn sizes_and_times() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (u64::MAX, "17179869183.9 GiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
    for (ms, text) in [
        (0, "0.0 s"),
        (9_999, "9.9 s"),
        (10_000, "10 s"),
        (3_599_999, "59 min 59 s"),
        (3_600_000, "1 h 0 min"),
        (90_000_000, "1 d 1 h"),
    ] {
        assert_eq!(period(ms), text);
    }
}
