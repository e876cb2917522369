//! Promise 3, for people: the status page of a running loader tells what its proofs would, in a real
//! browser, on a phone, whatever devices are called. And for machines: metrics, and what a probe asks.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_tests::browser::Browser;
use headwater_tests::device::Device;
use headwater_tests::kafka::{Kafka, Record};
use headwater_tests::loading::{Loading, page};
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::free_address;
use headwater_tests::s3::{Fault, Kind, Op, Request, S3};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// A device may be called what it likes.
const HOSTILE: &str = "<b>pi-9<img>&amp;";

/// What stands in a table, cell by cell.
fn table(browser: &mut Browser, id: &str) -> Vec<Vec<String>> {
    let rows = browser.eval(&format!(
        "[...document.querySelectorAll('#{id} tbody tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    ));
    serde_json::from_value(rows).unwrap_or_default()
}

#[test]
fn the_page_shows_partitions_devices_and_dead_letters_on_a_phone() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "page", 2);
    let mut whole = Device::new("pi-7", "/var/log/app", 1);
    let mut torn = Device::new(HOSTILE, "/var/log/app", 1);
    let mut records: Vec<Record> = (0..20).map(|i| whole.line(&format!("line {i}"))).collect();
    records.push(torn.line("first"));
    torn.seek(torn.offset() + 10);
    records.push(torn.line("behind a gap"));
    records.push(whole.reading("no JSON at all"));
    kafka.produce(&loading.topic, records);

    let listen = free_address();
    let http = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let loader = loading.loader(&http).start();
    wait_until("all is stored", PATIENCE, || loading.stored().len() >= 22);
    assert_eq!(page(&listen, "/healthz"), Some((200, "alive\n".to_owned())));

    let mut phone = Browser::start(390, 844);
    phone.open(&format!("http://{listen}/"));
    wait_until("the page shows the dead letter", PATIENCE, || {
        // The page itself looks every ten seconds, once its script is there.
        phone.eval("typeof refresh === 'function' && refresh().then(() => true)");
        table(&mut phone, "dead").len() == 1 && table(&mut phone, "devices").len() == 2
    });

    let partitions = table(&mut phone, "partitions");
    let names: Vec<&str> = partitions.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["0", "1"]);
    let stored: u64 = partitions
        .iter()
        .map(|row| row[2].parse::<u64>().expect("an offset"))
        .sum();
    assert_eq!(stored, 23, "{partitions:?}");

    let devices = table(&mut phone, "devices");
    assert_eq!(devices[0][0], HOSTILE, "what misses something comes first");
    assert_eq!(devices[0][3], "1", "{devices:?}");
    assert_ne!(devices[0][2], "100 %", "{devices:?}");
    assert_eq!((&*devices[1][0], &*devices[1][2]), ("pi-7", "100 %"));
    assert_eq!(phone.eval("document.querySelectorAll('b, img').length"), 0);

    let dead = table(&mut phone, "dead");
    assert_eq!((&*dead[0][0], &*dead[0][1]), ("row", "1"));
    assert!(dead[0][2].contains("it is no JSON object"), "{dead:?}");

    // Nothing is wider than the phone, and nothing came from elsewhere.
    let width = phone.eval("document.documentElement.scrollWidth");
    assert!(width.as_u64() <= Some(390), "{width} pixels wide");
    let from = phone.eval(
        "performance.getEntriesByType('resource').map(entry => new URL(entry.name).host).filter(host => host !== location.host)",
    );
    assert_eq!(from, json!([]));

    // The plots draw what the JSON says.
    let drawn = phone.eval(
        "(() => { const view = structuredClone(last); view.partitions[0].history_records = [0, 30, 600]; \
         view.partitions[0].history_lag_seconds = [5, 0, 1]; draw(view); \
         return [...document.querySelectorAll('#partitions svg')].map(svg => [svg.getAttribute('aria-label'), \
         svg.querySelector('polyline').getAttribute('points').split(' ').length, svg.getBoundingClientRect().height > 10]); })()",
    );
    assert_eq!(
        drawn,
        json!([
            ["Records a second: now 20, at most 20", 3, true],
            ["Lag in seconds: now 1, at most 5", 3, true]
        ])
    );

    // What is not loaded says why, as text.
    let told = phone.eval(
        "(() => { const view = structuredClone(last); view.partitions[0].waits = 'no <b>right</b>'; draw(view); \
         return document.getElementById('partitions').innerText.includes('not loaded: no <b>right</b>'); })()",
    );
    assert_eq!(told, true);

    // Without its loader the page says so, and as of when it is.
    loader.kill9();
    phone.eval("refresh()");
    let state = phone.eval("document.getElementById('state').innerText");
    assert!(
        matches!(&state, Value::String(text) if text.contains("does not answer") && text.contains("as of")),
        "{state}"
    );
}

/// A loader hangs at a point once it has loaded, and `/healthz` says so; the rest goes on to answer.
fn assert_it_is_told(point: &str, says: &str) {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "hangs", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    kafka.produce(&loading.topic, vec![device.line("first")]);
    let listen = free_address();
    let http = format!("[flush]\nage = \"300ms\"\n[http]\nlisten = \"{listen}\"\n");
    let setup = loading.loader(&http);
    let now = setup.dir().join("now");
    let armed = format!("{point}:{}", now.display());
    let loader = setup.env("HEADWATER_HANG_POINT", &armed).start();
    wait_until("it loads", PATIENCE, || loading.stored().len() == 1);
    assert_eq!(page(&listen, "/healthz"), Some((200, "alive\n".to_owned())));
    std::fs::write(&now, "").expect("a file");
    kafka.produce(&loading.topic, vec![device.line("second")]);
    wait_until("it hangs, and says so", 3 * PATIENCE, || {
        let said = page(&listen, "/healthz");
        said.is_some_and(|(status, text)| status == 503 && text.starts_with(says))
    });
    let metrics = page(&listen, "/metrics");
    assert_eq!(metrics.map(|(status, _)| status), Some(200));
    loader.kill9();
}

#[test]
fn a_thread_that_hangs_is_told() {
    std::thread::scope(|scope| {
        scope.spawn(|| assert_it_is_told("poll", "the poll thread is silent for "));
        scope.spawn(|| assert_it_is_told("feed", "the worker of partition 0 is silent for "));
    });
}

#[test]
fn metrics_for_cloudwatch_stand_alone_on_standard_output_and_sum_up() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "emf", 2);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let mut produce = |n: usize| {
        let records: Vec<Record> = (0..n).map(|i| device.line(&format!("line {i}"))).collect();
        kafka.produce(&loading.topic, records);
    };
    produce(30);
    let emf = "[flush]\nage = \"300ms\"\n[emf]\nnamespace = \"fleet/logs\"\nevery = \"1s\"\n";
    // Sums are exact as long as no commit is of unknown outcome, and no session is lost to a machine that
    // stands still.
    let loader = loading.loader_as("session_timeout = \"30s\"", emf).start();
    let told = || -> Vec<Value> {
        let lines = loader.stdout();
        // The last one may be under way.
        let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
        let parse = |line| serde_json::from_str(line).expect("nothing else is on standard output");
        whole.lines().map(parse).collect()
    };
    let sum = |name: &str| -> u64 { told().iter().filter_map(|line| line[name].as_u64()).sum() };
    wait_until("the first records are told", PATIENCE, || {
        sum("records") == 30
    });
    produce(12);
    wait_until("and what came later", PATIENCE, || sum("records") == 42);
    // A line at each second and one at the stop: each counts what came since the last one.
    let before = told().len();
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert!(told().len() > before, "none at the stop");
    assert_eq!((sum("records"), sum("rows")), (42, 42));
    let first = &told()[0];
    assert_eq!(first["group"], loading.group());
    assert_eq!(first["topic"], loading.topic);
    assert_eq!(
        first["_aws"]["CloudWatchMetrics"][0]["Namespace"],
        "fleet/logs"
    );
    assert_eq!(told().last().expect("it said so")["durable_lag_records"], 0);
}

/// Requests by operation and what came of them.
type Requests = BTreeMap<(String, String), u64>;

/// As the store saw them.
fn seen(s3: &S3) -> Requests {
    let mut seen = Requests::new();
    for Request {
        op, status, fault, ..
    } in s3.requests()
    {
        let operation = match op {
            Op::Put => "PutObject",
            Op::Get => "GetObject",
            Op::Head => "HeadObject",
            Op::List => "ListObjectsV2",
            Op::Delete => "DeleteObject",
            Op::CreateMultipart => "CreateMultipartUpload",
            Op::UploadPart => "UploadPart",
            Op::CompleteMultipart => "CompleteMultipartUpload",
            Op::AbortMultipart => "AbortMultipartUpload",
            Op::Other => "ListMultipartUploads",
            other => panic!("a loader asks for {other:?}"),
        };
        let outcome = match (fault, status) {
            (Some(Kind::SlowDown), _) => "slow_down",
            (Some(Kind::Timeout), _) => "timed_out",
            (Some(Kind::HangUp | Kind::HangUpAfterCommit), _) => "no_answer",
            (_, Some(200..300)) => "ok",
            (_, Some(403)) => "denied",
            (_, Some(404)) => "not_found",
            (_, Some(409)) => "conflict",
            (_, Some(412)) => "condition_failed",
            (_, Some(500..)) => "server_error",
            other => panic!("{op:?} came to {other:?}"),
        };
        *seen.entry((operation.into(), outcome.into())).or_default() += 1;
    }
    seen
}

/// As the loader counts them.
fn counted(listen: &str) -> Requests {
    let (_, text) = page(listen, "/metrics").unwrap_or_default();
    let requests = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("headwater_loader_requests_total{sink=\"s3\",")?;
        let quoted: Vec<&str> = labels.split('"').collect();
        let [_, operation, _, outcome, count] = quoted.as_slice() else {
            return None;
        };
        let count = count.strip_prefix("} ")?.parse().ok()?;
        Some((((*operation).to_owned(), (*outcome).to_owned()), count))
    });
    requests.collect()
}

/// How many requests of an operation came to this.
fn count(requests: &Requests, operation: &str, outcome: &str) -> u64 {
    let of = (operation.to_owned(), outcome.to_owned());
    requests.get(&of).copied().unwrap_or(0)
}

/// What CloudWatch got is the sum of these, to the last one.
fn assert_told(lines: &str, all: &Requests) {
    let told = |name: &str| -> u64 {
        let lines = lines.lines().map(|line| -> Value {
            serde_json::from_str(line).expect("nothing else is on standard output")
        });
        lines.filter_map(|line| line[name].as_u64()).sum()
    };
    assert_eq!(told("s3_requests"), all.values().sum::<u64>(), "{all:?}");
    assert_eq!(told("s3_requests_slowed"), 2);
    let answers = ["ok", "not_found", "condition_failed", "conflict"];
    let failed = all
        .iter()
        .filter(|((_, outcome), _)| !answers.contains(&outcome.as_str()));
    assert_eq!(
        told("s3_requests_failed"),
        failed.map(|(_, count)| count).sum::<u64>(),
        "{all:?}"
    );
}

/// Each kind of trouble once, the first of them the oldest; then it works. `of_data`: a part of the keys that meet it.
fn order_trouble(s3: &S3, of_data: &str) {
    for (op, kind) in [
        (Op::Put, Kind::SlowDown),
        (Op::Put, Kind::Http500),
        (Op::Put, Kind::Denied),
        (Op::Put, Kind::HangUp),
        (Op::Put, Kind::Timeout),
        (Op::Put, Kind::Conflict409),
        // What was there after all.
        (Op::Put, Kind::HangUpAfterCommit),
        (Op::UploadPart, Kind::Http503),
        (Op::CompleteMultipart, Kind::SlowDown),
    ] {
        s3.fault(Fault::on(op, kind).times(1).for_keys_with(of_data));
    }
}

#[test]
fn each_request_is_counted_as_the_store_saw_it() {
    let (kafka, s3) = (Kafka::shared(), S3::start());
    let loading = Loading::new(kafka, &s3, "requests", 1);
    let mut device = Device::new("pi-7", "/var/log/app", 1);
    let mut produce = |bytes: usize| {
        let line = "x".repeat(bytes);
        kafka.produce(&loading.topic, (0..60).map(|_| device.line(&line)));
    };
    order_trouble(&s3, &format!("{}+0+", loading.topic));
    let listen = free_address();
    let more = format!(
        "path = \"all\"\ncompression = \"none\"\n[output.s3]\nmultipart_above = \"5MiB\"\ntimeout = \"10s\"\n\
         [flush]\nrecords = 60\n[http]\nlisten = \"{listen}\"\n[emf]\nnamespace = \"n\"\nevery = \"1s\"\n"
    );
    let loader = loading
        .loader_as("session_timeout = \"30s\"", &more)
        .start();
    produce(10);
    wait_until("small objects are there", 2 * PATIENCE, || {
        loading.stored().len() == 60
    });
    produce(100_000);
    wait_until("a large one is there", 2 * PATIENCE, || {
        loading.stored().len() == 120
    });
    wait_until("both count the same", PATIENCE, || {
        counted(&listen) == seen(&s3)
    });
    let counted = counted(&listen);
    for outcome in [
        "slow_down",
        "server_error",
        "denied",
        "timed_out",
        "conflict",
        "condition_failed",
    ] {
        assert_eq!(
            count(&counted, "PutObject", outcome),
            1,
            "{outcome} {counted:?}"
        );
    }
    assert_eq!(count(&counted, "PutObject", "no_answer"), 2, "{counted:?}");
    for (operation, outcome) in [
        ("UploadPart", "server_error"),
        ("CompleteMultipartUpload", "slow_down"),
        ("CompleteMultipartUpload", "ok"),
        ("AbortMultipartUpload", "ok"),
        ("HeadObject", "not_found"),
        ("ListObjectsV2", "ok"),
    ] {
        assert!(
            count(&counted, operation, outcome) >= 1,
            "{operation} {outcome} {counted:?}"
        );
    }
    assert_eq!(loader.sigterm_and_wait(PATIENCE).code(), Some(0));
    assert_told(&loader.stdout(), &seen(&s3));
}
