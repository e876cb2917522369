//! What one agent costs on three brokers by IAM, with its default settings and credentials of an
//! hour: connections, authentications, bytes. The kernel counts the bytes of each connection (`ss
//! -ti`); a connection that ends between two looks loses at most what it carried since the last.

use headwater_tests::clock;
use headwater_tests::kafka::{Listener, Msk};
use headwater_tests::oracle::wait_until;
use headwater_tests::process::{Agent, Process};
use headwater_tests::secured::Secured;
use headwater_tests::writer::Writer;
use std::collections::BTreeMap;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_secs(1);
/// From the first record until the start counts as over.
const SETTLE: Duration = Duration::from_secs(60);

/// Bytes of payload of one TCP connection, by the agent's side.
#[derive(Debug, Clone, Copy, Default)]
struct Carried {
    sent: u64,
    received: u64,
}

/// Every connection that was seen, by its two addresses.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, Carried>);

impl Seen {
    /// Looks at the connections of a process; returns how many are open.
    fn look(&mut self, pid: u32) -> usize {
        let told = Command::new("ss")
            .args(["-tinpOH", "state", "established"])
            .output();
        let told = told.expect("ss runs: iproute2 has it");
        let text = String::from_utf8_lossy(&told.stdout);
        let ours = format!("pid={pid},");
        let mut open = 0;
        for line in text.lines().filter(|line| line.contains(&ours)) {
            let number = |name: &str| {
                let rest = line.split(' ').find_map(|word| word.strip_prefix(name));
                rest.and_then(|rest| rest.parse().ok()).unwrap_or(0)
            };
            let addresses: Vec<&str> = line.split_whitespace().skip(2).take(2).collect();
            let carried = Carried {
                sent: number("bytes_sent:"),
                received: number("bytes_received:"),
            };
            self.0.insert(addresses.join(" "), carried);
            open += 1;
        }
        open
    }

    fn sum(&self) -> Carried {
        self.0
            .values()
            .fold(Carried::default(), |sum, one| Carried {
                sent: sum.sent + one.sent,
                received: sum.received + one.received,
            })
    }
}

struct World<'a> {
    secured: Secured<'a>,
    agent: Process,
    writer: Writer,
    started: Instant,
}

/// An agent whose configuration leaves everything as it is by default.
fn start<'a>(msk: &'a Msk, more: &str) -> World<'a> {
    let secured = Secured::on(msk, "one");
    msk.kafka().create_topic("logs", 3, &[]);
    secured.allow("logs");
    let config = format!(
        "device = \"pi-7\"\nstate_dir = \"{{dir}}/state\"\n[kafka]\nbrokers = {}\ntopic = \"logs\"\n\
         [kafka.security]\n{}{}{more}[[file]]\nid = \"app\"\npaths = [\"{}/*.log\"]\n",
        msk.brokers(Listener::Iam),
        secured.iam_security(),
        secured.iot_section(),
        secured.folder().display(),
    );
    let mut writer = Writer::new(secured.path("app.log"), "w", 5);
    writer.write(10);
    World {
        agent: Agent::start(&config),
        started: clock::now(),
        writer,
        secured,
    }
}

impl World<'_> {
    /// Times that a broker let it in, re-authentications included.
    fn authentications(&self) -> usize {
        let principal = self.secured.principal(&self.secured.device);
        let decisions = self.secured.msk.iam().decisions();
        let ours = decisions.iter().filter(|one| one.principal == principal);
        ours.filter(|one| one.accepted).count()
    }

    fn sessions(&self) -> u64 {
        let told = self.agent.ask("status", &["--json"]).stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        told["counters"]["sessions"].as_u64().unwrap_or(0)
    }

    fn depth(&self) -> i64 {
        self.secured.msk.kafka().depth("logs")
    }
}

/// After its start, and then while nothing is written.
pub(super) fn idle(minutes: u64) {
    let msk = Msk::with().three_nodes().start();
    let world = start(&msk, "");
    wait_until("it delivers", PATIENCE, || world.depth() > 0);
    let mut seen = Seen::default();
    while world.started.elapsed() < SETTLE {
        seen.look(world.agent.pid());
        sleep(LOOK);
    }
    let (open, before) = (seen.look(world.agent.pid()), seen.sum());
    let (made, authenticated) = (seen.0.len(), world.authentications());
    println!(
        "start: {authenticated} authentications, {made} connections seen, {open} open after {SETTLE:?}; \
         {} bytes sent, {} received",
        before.sent, before.received
    );
    let window = Duration::from_secs(60 * minutes);
    let start = clock::now();
    while start.elapsed() < window {
        seen.look(world.agent.pid());
        sleep(LOOK);
    }
    let (open, after) = (seen.look(world.agent.pid()), seen.sum());
    println!(
        "idle for {minutes} minutes: {} authentications, {} new connections, {open} open at the end; \
         {} bytes sent, {} received",
        world.authentications() - authenticated,
        seen.0.len() - made,
        after.sent - before.sent,
        after.received - before.received
    );
    let cpu = world.agent.cpu_seconds();
    println!(
        "  {cpu:.2} s of CPU in all, {} KiB resident",
        world.agent.rss_kib()
    );
}

/// Authentications for each session.
pub(super) fn cycle() {
    let msk = Msk::with().three_nodes().start();
    let mut world = start(&msk, "[uplink]\nsession = \"cycle\"\nevery = \"15s\"\n");
    wait_until("the first session has delivered", PATIENCE, || {
        world.depth() > 0
    });
    let (before, sessions) = (world.authentications(), world.sessions());
    let (mut seen, mut open_most) = (Seen::default(), 0);
    let start = clock::now();
    while start.elapsed() < Duration::from_secs(180) {
        world.writer.write(1);
        open_most = open_most.max(seen.look(world.agent.pid()));
        sleep(LOOK);
    }
    println!(
        "cycle, a line a second: {} sessions, {} authentications, {} connections seen, at most \
         {open_most} open at once",
        world.sessions() - sessions,
        world.authentications() - before,
        seen.0.len()
    );
}
