use super::*;
use crate::metrics::Requests;

const GOOD: &str = r#"
    [kafka]
    brokers = ["localhost:9092"]
    topic = "logs"
    [group]
    id = "loader"
    [output]
    url = "s3://bucket/a/b/"
"#;

fn plan(text: &str) -> Result<Plan, Vec<String>> {
    let file: ConfigFile = headwater_msk::config_file::parse(text).map_err(|error| vec![error])?;
    let tables = table_sources(&file).read(&Requests::default())?;
    Plan::new(&file, tables, None)
}

#[test]
fn a_short_file_is_enough() {
    let plan = plan(GOOD).unwrap();
    let Output::S3(s3) = plan.output else {
        panic!("it is S3")
    };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("bucket", "a/b/"));
    assert_eq!(plan.flush.age_ms, 60_000);
}

#[test]
fn what_no_name_has_room_for_is_refused_at_the_start() {
    let said = |url: &str, topic: usize, path: usize| {
        let text = GOOD
            .replace("s3://bucket/a/b/", url)
            .replace("\"logs\"", &format!("\"{}\"", "t".repeat(topic)));
        let path = "p".repeat(path);
        plan(&format!("{text}\npath = \"{path}/{{device}}\"\n")).map(|_| ())
    };
    let name = |bytes: usize| "d".repeat(bytes);
    let folder = |parts: usize| format!("file://{}", format!("/{}", name(254)).repeat(parts));
    for (url, topic, path) in [
        ("file:///out", 174, 255),
        (&folder(12), 9, 9),
        (&format!("s3://b/{}", name(200)), 249, 255),
    ] {
        assert_eq!(said(url, topic, path), Ok(()), "{url}");
    }
    for (url, topic, path, why) in [
        ("file:///out", 175, 9, "in a folder it has 174 at most"),
        (&folder(13), 9, 9, "a folder's path has 3070"),
        (
            &format!("file:///{}", name(256)),
            9,
            9,
            "each of its parts 255",
        ),
        ("s3://b", 9, 256, "a part of its path is longer than 255"),
        (&format!("s3://b/{}", name(201)), 9, 9, "200 bytes at most"),
    ] {
        let problems = said(url, topic, path).unwrap_err();
        assert!(problems[0].contains(why), "{problems:?}");
    }
}

#[test]
fn accounts_are_of_the_pipeline_where_there_are_some() {
    let hash = |more: &str| {
        plan(&format!("{GOOD}\n{more}"))
            .unwrap()
            .pipeline
            .hash()
            .to_owned()
    };
    assert_eq!(
        hash("[accounts]\ndevices = 7\n"),
        hash(""),
        "nothing is asked for"
    );
    assert_ne!(hash("[accounts]\ndaily = 'device'\n"), hash(""));
    assert_ne!(hash("[accounts]\nhourly_markers = true\n"), hash(""));
    let none = plan(&format!("{GOOD}\n[accounts]\ndevices = 0\n"));
    assert!(none.unwrap_err()[0].contains("accounts.devices"));
}

#[test]
fn problems_are_told_all_at_once_and_unknown_keys_named() {
    let bad = GOOD
        .replace("s3://bucket/a/b/", "ftp://x")
        .replace("\"logs\"", "\"\"")
        + "path = '../x'\n[flush]\nbytes = '1KiB'\nage = '1ms'\n";
    assert_eq!(plan(&bad).unwrap_err().len(), 5);
    for wrong in ["namespace = 'AWS/Kafka'", "namespace = ''", "every = '0s'"] {
        let error = plan(&format!("{GOOD}\n[emf]\n{wrong}\n")).unwrap_err();
        assert!(error[0].starts_with("emf."), "{error:?}");
    }
    let error = plan(&format!("{GOOD}\n[flush]\nagee = '1s'\n")).unwrap_err();
    assert!(error[0].contains("did you mean `age`?"), "{error:?}");
    for (flush, said) in [
        ("every = '7m'\nage = '1h'", "a day is a multiple of"),
        ("every = '15m'", "set flush.age to 15m"),
        ("idle = '1ms'", "flush.idle"),
    ] {
        let problems = plan(&format!("{GOOD}\n[flush]\n{flush}\n")).unwrap_err();
        assert!(problems[0].contains(said), "{problems:?}");
    }
    let timed = format!("{GOOD}\n[flush]\nevery = '15m'\nage = '15m'\nidle = '10s'\n");
    let flush = plan(&timed).unwrap().flush;
    assert_eq!(
        (flush.idle_ms, flush.every_ms),
        (Some(10_000), Some(900_000))
    );
    let table = "[[output.dynamodb.table]]\nname='items'\nmode='latest'\npartition_key={name='pk',value='{device}'}\n";
    assert_eq!(
        plan(&format!("{GOOD}\n{table}"))
            .unwrap()
            .pipeline
            .items()
            .len(),
        1
    );
    for (bad, word) in [
        (format!("{GOOD}\n{table}{table}"), "twice"),
        (
            format!("{GOOD}\n[output.dynamodb]\nregion='x'\n"),
            "has no [[output",
        ),
        (
            format!("{GOOD}\n{table}[output.dynamodb]\ntimeout='1ms'\n"),
            "100ms",
        ),
        (
            format!("{GOOD}\n{}", table.replace("items", "x")),
            "3 to 255",
        ),
    ] {
        let problems = plan(&bad).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.contains(word)),
            "{problems:?}"
        );
    }
    let lost = format!("{GOOD}\n[[transform]]\nstep='lookup'\ntable='/no/such.csv'\nfield='x'\n");
    assert!(plan(&lost).unwrap_err()[0].contains("/no/such.csv"));
}
