//! What else takes records from Kafka and writes them down, of what package registries carry: rsyslog
//! (imkafka, omfile) as Debian has it, and Kafka Connect with its own sink to a file.
//!
//! Both write to a local file where the loader writes to S3. Neither accounts for anything, and imkafka
//! commits what it has read, written or not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use headwater_tests::kafka::connect_libs;
use headwater_tests::oracle::wait_until;
use headwater_tests::outside::{free_address, unique};

use super::measure::Used;
use super::peers::{Running, start_rsyslogd};
use super::{Bench, PATIENCE};

/// What each is called in the tables, and what it used for a topic of so many records.
pub(crate) type Consumer = (&'static str, fn(&Bench, &str, u64) -> Used);

pub(crate) const CONSUMERS: [Consumer; 2] = [
    ("rsyslog (imkafka, omfile, gzip)", rsyslog),
    ("Kafka Connect (file sink, plain)", connect),
];

impl Running {
    /// What it used until its group had committed all.
    fn until_committed(&self, bench: &Bench, group: &str, topic: &str, records: u64) -> Used {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        wait_until("the peer has taken every record", PATIENCE, || {
            let committed = bench.kafka.committed(group, topic);
            let taken: i64 = committed.iter().filter_map(|of| of.offset).sum();
            if taken < records {
                // Each look costs the broker, and so those who are measured.
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
            taken >= records
        });
        let used = Used::by(self.pid());
        let written = fs::metadata(self.folder().join("out")).map_or(0, |out| out.len());
        assert!(written > 0, "it wrote nothing: {}", self.said());
        used
    }
}

fn rsyslog(bench: &Bench, topic: &str, records: u64) -> Used {
    let group = unique("rsyslog");
    let running = start_rsyslogd(|folder| {
        format!(
            r#"global(workDirectory="{folder}")
module(load="imkafka")
template(name="line" type="string" string="%msg%\n")
ruleset(name="out") {{
  action(type="omfile" file="{folder}/out" template="line" zipLevel="6" ioBufferSize="64k"
         flushOnTXEnd="off")
}}
input(type="imkafka" topic="{topic}" broker="{broker}" consumergroup="{group}" ruleset="out"
      confParam=["auto.offset.reset=earliest", "auto.commit.interval.ms=1000"])
"#,
            folder = folder.display(),
            broker = bench.kafka.bootstrap(),
        )
    });
    running.until_committed(bench, &group, topic, records)
}

fn connect(bench: &Bench, topic: &str, records: u64) -> Used {
    let libs: PathBuf = connect_libs();
    let name = unique("sink");
    let listen = free_address();
    let running = Running::start(|folder| {
        let at = folder.display();
        let worker = format!(
            "bootstrap.servers={}\n\
             key.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\n\
             header.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
             offset.storage.file.filename={at}/offsets\n\
             offset.flush.interval.ms=1000\n\
             consumer.auto.offset.reset=earliest\n\
             plugin.discovery=only_scan\n\
             plugin.path={}\n\
             listeners=http://{}\n",
            bench.kafka.bootstrap(),
            libs.display(),
            &*listen,
        );
        let sink = format!(
            "name={name}\nconnector.class=org.apache.kafka.connect.file.FileStreamSinkConnector\n\
             tasks.max=1\ntopics={topic}\nfile={at}/out\n"
        );
        for (file, text) in [("worker", worker), ("sink", sink)] {
            fs::write(folder.join(file), text).expect("a configuration can be written");
        }
        let mut command = Command::new("java");
        command
            .args(["-Xms256m", "-Xmx2g", "-cp"])
            .arg(libs.join("*"))
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .arg(folder.join("worker"))
            .arg(folder.join("sink"));
        command
    });
    running.until_committed(bench, &format!("connect-{name}"), topic, records)
}
