use std::path::Path;

use super::*;
use crate::process::Form;

const KAFKA: &str = "[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n";

fn host() -> Host {
    Host {
        machine_id: Some("0123abcd".into()),
    }
}

fn plan(text: &str) -> Result<Plan, Vec<Problem>> {
    let config = headwater_msk::config_file::parse(text).unwrap();
    Plan::new(config, &host())
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = plan(&format!(
        "{KAFKA}[[file]]\nid = \"syslog\"\npaths = [\"/var/log/syslog\"]\n\
         [[sensor]]\nid = \"cpu\"\npaths = [\"/sys/class/thermal/*/temp\"]\n"
    ))
    .unwrap();
    assert_eq!(plan.device.as_str(), "0123abcd");
    assert_eq!(plan.state_dir, Path::new("/var/lib/headwater"));
    assert_eq!(plan.kafka.security.mode, defaults::SECURITY_MODE);
    assert_eq!(
        plan.kafka.security.allow_plaintext,
        defaults::ALLOW_PLAINTEXT
    );
    assert_eq!(plan.window_bytes, 4 << 20);
    assert_eq!(plan.spool.after, Duration::from_secs(2));
    assert_eq!(plan.checkpoint.bytes, 64 << 20);
    assert_eq!(plan.files[0].start_at, StartAt::Beginning);
    assert_eq!(plan.files[0].framing.max_line, 128 << 10);
    assert_eq!(plan.sensors[0].beat.interval, Duration::from_secs(10));
}

#[test]
fn the_effective_configuration_gives_the_same_plan() {
    let first = plan(&format!(
        "device = \"pi-7\"\n{KAFKA}[kafka.security]\nmode = \"iam\"\nregion = \"eu-west-1\"\n\
         [credentials.iot]\nendpoint = \"https://x.example\"\nrole_alias = \"fleet\"\n\
         certificate = \"/c\"\nkey = \"credential:k\"\n[produce]\nkey = \"x-{{source}}\"\n[window]\nbytes = \"1MB\"\n[spool]\nafter = \"0s\"\nkey = \"credential:k\"\nold_keys = [\"/k\"]\n\
         [uplink]\nbytes_per_hour = \"1MB\"\nbytes_per_day = \"2MB\"\nbytes_per_month = \"3GiB\"\n\
         [[file]]\nid = \"a\"\npaths = [\"/a/**/*.log\"]\nexclude = [\"/a/x\"]\nstart_at = \"end\"\n\
         [[sensor]]\nid = \"b\"\npaths = [\"/b\"]\nscale = 0.001\nunit = \"C\"\n\
         kind = \"csv\"\ncolumn = \"t\"\nseparator = \";\"\ndeadband = \"7%\"\nalign = true\njitter = \"1s\"\n\
         min = -40\nstale_after = \"5m\"\nrollup = {{ window = \"1m\", when = \"offline\" }}\n\
         [[journal]]\nid = \"j\"\nlane = \"low\"\nunits = [\"a.service\"]\npriority = \"err\"\nsince = \"today\"\n\
         fields = [\"_UID\"]\ndirectory = \"/j\"\n[[journal.process]]\nstep = \"redact\"\npattern = \"a\"\n\
         [[sensor]]\nid = \"c\"\nkind = \"one_wire\"\n\
         [[sensor]]\nid = \"d\"\ncommand = [\"/usr/bin/vcgencmd\", \"measure_temp\"]\ndeadband = \"0.1\"\n\
         [[file]]\nid = \"e\"\npaths = [\"/e\"]\nrepeats = {{ within = \"30s\" }}\n\
         rate_limit = {{ records = 10, per = \"1m\" }}\n\
         [[file.process]]\nstep = \"parse\"\nformat = \"csv\"\ncolumns = [\"a\"]\n\
         [[file.process]]\nstep = \"keep\"\nfield = \"a\"\nat_least = 3\n\
         [[file]]\nid = \"r\"\npaths = [\"/r\"]\nvalue = \"raw\"\nrate_limit = {{ records = 1, per = \"1s\" }}\n\
         [[file.process]]\nstep = \"drop\"\nfield = \"message\"\nmatches = \"^DEBUG\"\n\
         [[file.process]]\nstep = \"redact\"\npattern = \"a\"\n\
         [[journal]]\nid = \"k\"\nvalue = \"raw\"\n[[journal.process]]\nstep = \"keep\"\nfield = \"unit\"\nexists = true\n"
    ))
    .unwrap();
    let text = toml::to_string(&first.effective()).unwrap();
    assert_eq!(plan(&text).unwrap(), first);
}

#[test]
fn each_source_is_of_the_lane_that_it_names() {
    let plan = plan(&format!(
        "{KAFKA}[[file]]\nid = \"f\"\npaths = [\"/f\"]\n\
         [[journal]]\nid = \"j\"\nlane = \"high\"\n[[journal]]\nid = \"k\"\n\
         [[sensor]]\nid = \"s\"\npaths = [\"/s\"]\nlane = \"low\"\n"
    ))
    .unwrap();
    let lanes: Vec<_> = plan.lanes().into_values().collect();
    assert_eq!(lanes, [Lane::Normal, Lane::High, Lane::Normal, Lane::Low]);
}

#[test]
fn every_problem_is_told_at_once_with_its_key() {
    let problems = plan(
        "device = \"a/b\"\nstate_dir = \"state\"\n[kafka]\nbrokers = []\ntopic = \"a b\"\n\
         [kafka.options]\nacks = \"0\"\n[kafka.security]\nca = \"x\"\n[produce]\nkey = \"{time}\"\n[window]\nbytes = \"1KiB\"\n[spool]\nmax_bytes = \"1B\"\nkey = \"k\"\nold_keys = [\"/k\", \"k\"]\n\
         [checkpoint]\nevery = \"1ms\"\n\
         [[file]]\nid = \"a\"\npaths = [\"log\", \"/x/[\"]\nexclude = [\"/a/***\"]\n\
         max_line = \"1MiB\"\nrescan = \"1ms\"\nclose_after = \"0s\"\n\
         [[file]]\nid = \"\"\npaths = []\n\
         [[sensor]]\nid = \"a\"\npaths = [\"/s\"]\ninterval = \"99ms\"\nscale = nan\noffset = inf\n",
    )
    .unwrap_err();
    let keys: Vec<_> = problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    let expected = [
        "device",
        "state_dir",
        "kafka.brokers",
        "kafka.topic",
        "kafka.options",
        "kafka.security.ca",
        "kafka.security.ca",
        "produce.key",
        "window.bytes",
        "spool.max_bytes",
        "spool.key",
        "spool.old_keys[1]",
        "checkpoint.every",
        "file[0].paths[0]",
        "file[0].paths[1]",
        "file[0].max_line",
        "file[0].exclude[0]",
        "file[0].rescan",
        "file[0].close_after",
        "file[1].id",
        "file[1].paths",
        "sensor[0].id",
        "sensor[0].scale",
        "sensor[0].offset",
        "sensor[0].interval",
    ];
    assert_eq!(keys, expected, "{problems:#?}");
}

/// Settings of a `[[file]]` with raw values, the key that is refused, and a part of why.
const NO_PLACE_IN_RAW: &[(&str, &str, &str)] = &[
    (
        "[[file.process]]\nstep = 'parse'\nformat = 'json'",
        "process[0]",
        "value = \"json\"",
    ),
    (
        "[[file.process]]\nstep = 'rename'\nfrom = 'a'\nto = 'b'",
        "process[0]",
        "value = \"json\"",
    ),
    (
        "[[file.process]]\nstep = 'remove'\nfields = ['a']",
        "process[0]",
        "value = \"json\"",
    ),
    (
        "[[file.process]]\nstep = 'add'\nfield = 'a'\nvalue = 1",
        "process[0]",
        "value = \"json\"",
    ),
    (
        "[[file.process]]\nstep = 'drop'\nfield = '/level'\nin = ['debug']",
        "process[0]",
        "no field \"/level\", but message, continued, continues",
    ),
    (
        "[[file.process]]\nstep = 'sample'\nrate = 0.5\nfield = 'user'",
        "process[0]",
        "no field \"user\"",
    ),
    (
        "[[file.process]]\nstep = 'redact'\nfields = ['message', 'user']",
        "process[0]",
        "no field \"user\", but message:",
    ),
    (
        "repeats = { within = '30s' }",
        "repeats",
        "value = \"json\"",
    ),
    (
        "encoding = 'utf-16'\n[[file.process]]\nstep = 'redact'\npattern = 'a'",
        "process[0]",
        "the encoding is utf-16",
    ),
];

#[test]
fn what_journalctl_would_refuse_is_refused_at_the_start() {
    let journal = "[[journal]]\nid = 'j'\npriority = 'warn'\nsince = ' '\n";
    let problems = plan(&format!("{KAFKA}{journal}")).unwrap_err();
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("journal[0].priority: \"warn\" is none"),
        "{told:?}"
    );
    assert!(told[1].starts_with("journal[0].since: empty"), "{told:?}");
}

#[test]
fn what_has_no_place_in_raw_values_is_refused() {
    let with = |source: &str| {
        let problems = plan(&format!("{KAFKA}{source}")).unwrap_err();
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        told.join("\n")
    };
    let file = "[[file]]\nid = 'a'\npaths = ['/a']\nvalue = 'raw'\n";
    for (source, key, what) in NO_PLACE_IN_RAW {
        let told = with(&format!("{file}{source}\n"));
        let begin = format!("file[0].{key}: ");
        assert!(told.starts_with(&begin) && told.contains(what), "{told}");
    }
    let journal = with("[[journal]]\nid = 'j'\nvalue = 'raw'\nfields = ['_UID']\n");
    assert!(journal.starts_with("journal[0].fields: "), "{journal}");
    let sensor = format!("{KAFKA}[[sensor]]\nid = 's'\npaths = ['/s']\nvalue = 'raw'\n");
    let refused = headwater_msk::config_file::parse::<ConfigFile>(&sensor).unwrap_err();
    assert!(
        refused.to_string().contains("unknown field `value`"),
        "{refused}"
    );
    // Which lines go may be asked of any encoding.
    let keep = "[[file.process]]\nstep = 'keep'\nfield = '/message'\nmatches = 'a'\n";
    let good = plan(&format!("{KAFKA}{file}encoding = 'utf-16'\n{keep}")).unwrap();
    assert_eq!(good.files[0].process.form, Form::Raw);
}

#[test]
fn a_configuration_without_sources_or_identity_is_refused() {
    let config = headwater_msk::config_file::parse(KAFKA).unwrap();
    let problems = Plan::new(config, &Host::default()).unwrap_err();
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "device: not set, and /etc/machine-id holds no id to stand in: name the device",
            "file: no source: write one [[file]], [[journal]] or [[sensor]] at least",
        ]
    );
}

#[test]
fn a_running_agent_is_found_by_a_configuration_that_is_refused() {
    let listen = |text: &str| {
        let config = headwater_msk::config_file::parse(text).unwrap();
        Plan::listen_of(&config)
    };
    let bad = "state_dir = \"/s\"\n[kafka]\nbrokers = []\ntopic = \"a b\"\n";
    assert_eq!(listen(bad), Ok(Listen::Unix("/s/agent.sock".into())));
    let problems = listen("[kafka]\nbrokers = []\ntopic = 't'\n[admin]\nlisten = 'x'\n");
    assert_eq!(problems.unwrap_err()[0].key, "admin.listen");
}

#[test]
fn a_reason_stands_beside_every_optional_key() {
    let plan = plan(&format!(
        "{KAFKA}[[file]]\nid = \"a\"\npaths = [\"/a\"]\n[[journal]]\nid = \"j\"\n\
         [[sensor]]\nid = \"b\"\npaths = [\"/b\"]\n"
    ))
    .unwrap();
    let table = toml::Table::try_from(plan.effective()).unwrap();
    for (key, _) in defaults::REASONS {
        let found = key
            .split('.')
            .try_fold(toml::Value::Table(table.clone()), |at, part| {
                let at = match at {
                    toml::Value::Array(list) => list.into_iter().next()?,
                    at => at,
                };
                at.get(part).cloned()
            });
        assert!(found.is_some(), "{key} is no key of the configuration");
    }
}

#[test]
fn memory_is_divided_and_what_does_not_fit_is_refused() {
    let with = |text: &str| {
        plan(&format!(
            "{KAFKA}{text}\n[[file]]\nid = \"a\"\npaths = [\"/a\"]\n"
        ))
    };
    let window = |text: &str| with(text).map(|plan| plan.window_bytes >> 10);
    assert_eq!(window("[memory]\nmax = \"46MiB\""), Ok(2048));
    assert_eq!(
        window("[memory]\nmax = \"46MiB\"\n[window]\nbytes = \"1MiB\""),
        Ok(1024)
    );
    let journal = "[[journal]]\nid = \"j\"";
    assert_eq!(
        window(&format!("[memory]\nmax = \"64MiB\"\n{journal}")),
        Ok((64 - 44) * 1024 - 5440)
    );
    for text in ["", "[window]\nbytes = \"1MiB\"", journal] {
        for max in 44..100 {
            let text = format!("[memory]\nmax = \"{max}MiB\"\n{text}");
            let Ok(plan) = with(&text) else { continue };
            assert!(memory::sum(&plan.memory()).0 <= max << 20, "{text}");
        }
    }
    for text in [
        "[memory]\nmax = \"44MiB\"".to_owned(),
        "[memory]\nmax = \"46MiB\"\n[window]\nbytes = \"4MiB\"".to_owned(),
        format!("[memory]\nmax = \"46MiB\"\n{journal}"),
    ] {
        let problems = with(&text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, "memory.max");
    }
}

#[test]
fn an_uplink_has_hours_and_a_place_of_its_own() {
    let with = |device: &str, hours: &str| {
        plan(&format!(
            "device = \"{device}\"\n{KAFKA}[uplink]\nsession = \"cycle\"\nhours = \"{hours}\"\n[[file]]\nid = \"a\"\npaths = [\"/a\"]\n"
        ))
    };
    let (a, b) = (
        with("a", "22:00-06:30").unwrap(),
        with("b", "22:00-06:30").unwrap(),
    );
    assert_ne!(a.uplink.place, b.uplink.place);
    assert_eq!(a.uplink.hours.unwrap().to_string(), "22:00-06:30");
    let budgets = |text: &str| {
        plan(&format!(
            "device = 'a'\n{KAFKA}[uplink]\n{text}\n[[file]]\nid = \"a\"\npaths = [\"/a\"]\n"
        ))
    };
    let month = budgets("bytes_per_month = '500MB'").unwrap().uplink.budgets;
    assert_eq!((month.hour, month.month), (None, Some(500_000_000)));
    let problems = budgets("bytes_per_hour = '1KiB'\nbytes_per_day = '1B'").unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| &problem.key).collect();
    assert_eq!(keys, ["uplink.bytes_per_hour", "uplink.bytes_per_day"]);
    for wrong in ["22:00", "22-06", "24:00-06:00", "22:60-06:00", "x:00-06:00"] {
        let problems = with("a", wrong).unwrap_err();
        assert_eq!(problems[0].key, "uplink.hours", "{wrong}");
    }
}

#[test]
fn a_configuration_of_a_megabyte_is_checked_as_any_other() {
    let source = |n: usize, id: &str| {
        format!("[[file]]\nid = \"{id}{n}\"\npaths = [\"/var/log/{n}/*.log\"]\n")
    };
    let text = |id: &str| {
        let mut text = KAFKA.to_owned();
        let mut n = 0;
        while text.len() < 1 << 20 {
            text.push_str(&source(n, id));
            n += 1;
        }
        (text, n)
    };
    let (good, count) = text("app");
    assert_eq!(plan(&good).unwrap().files.len(), count);
    // Every single one is named.
    let (bad, count) = text("a b");
    assert_eq!(plan(&bad).unwrap_err().len(), count);
}
