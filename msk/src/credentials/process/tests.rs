//! Against real programs, as a shell runs them.

use super::*;

use std::path::Path;
use std::time::SystemTime;

const GOOD: &str = r#"{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"s3cret/+","SessionToken":"t0ken==","Expiration":"2027-01-15T08:30:00Z"}"#;

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn ran(command: &str) -> Result<Credentials, SourceError> {
    wait_for(run(command))
}

/// Whether a process is there and no zombie.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    state.flatten().is_some_and(|state| state != 'Z')
}

fn numbers(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A program that starts another one and hangs with it; both write down their numbers.
fn hanging(path: &Path) -> String {
    let path = path.display();
    format!("sh -c 'echo $$ >> {path}; sleep 1000; true' & echo $$ >> {path}; wait")
}

#[test]
fn what_a_program_prints_is_taken() {
    let credentials = ran(&format!("printf '%s' '{GOOD}'")).unwrap();
    assert_eq!(credentials.access_key_id(), "ASIA1");
    assert_eq!(credentials.secret_access_key(), "s3cret/+");
    assert_eq!(credentials.session_token(), Some("t0ken=="));
    let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_001_800);
    assert_eq!(credentials.expiry(), Some(expected));
    let offset = parse(GOOD.replace('Z', "+00:00").as_bytes()).unwrap();
    assert_eq!(offset.expiry(), Some(expected));
    let long = r#"{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"s3cret"}"#;
    let long = parse(long.as_bytes()).unwrap();
    assert_eq!((long.session_token(), long.expiry()), (None, None));
}

#[test]
fn a_program_that_fails_is_quoted_within_bounds_and_what_it_prints_is_not() {
    let said = |command: &str| ran(command).unwrap_err().to_string();
    let refused = said(&format!(
        "printf '%s' '{GOOD}'; echo 'no network' >&2; exit 7"
    ));
    assert!(refused.contains("credential_process ended with exit status: 7: \"no network\""));
    assert!(!refused.contains("s3cret"), "{refused}");
    let long = said("yes | head -c 60000 >&2; exit 1");
    assert!(long.len() < 800, "{long}");
    assert!(said("yes").contains("more than 64 KiB"));
    assert!(said("yes >&2").contains("more than 64 KiB"));
    assert!(said("/no/such/program").contains("ended with exit status: 127"));
    for wrong in [
        "",
        "{}",
        &GOOD.replace("s3cret/+", ""),
        &GOOD.replace("t0ken==", ""),
        &GOOD.replace("\"s3cret/+\"", "7"),
        &GOOD.replace(":1", ":2"),
        &GOOD.replace("2027-01-15T08:30:00Z", "tomorrow"),
        &GOOD[..GOOD.len() - 1],
    ] {
        let error = parse(wrong.as_bytes()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("prints"), "{text}");
        assert!(
            !text.contains("s3cret") && !text.contains("t0ken"),
            "{text}"
        );
    }
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pids");
    let look = Duration::from_millis(20);
    let late = wait_for(async {
        // Long enough to be there; however long that takes.
        loop {
            let late = run_within(&hanging(&path), Duration::from_millis(300)).await;
            match numbers(&path).len() {
                2.. => break late,
                _ => tokio::time::sleep(look).await,
            }
        }
    });
    let late = late.unwrap_err().to_string();
    assert!(
        late.contains("was still running") && late.contains("was killed"),
        "{late}"
    );
    while numbers(&path).into_iter().any(is_running) {
        std::thread::sleep(look);
    }
}

#[test]
fn a_program_that_nobody_waits_for_any_more_is_killed_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pids");
    let look = Duration::from_millis(20);
    wait_for(async {
        let command = hanging(&path);
        let running = run(&command);
        let started = async {
            while numbers(&path).len() < 2 {
                tokio::time::sleep(look).await;
            }
        };
        tokio::select! {
            ended = running => panic!("{ended:?}"),
            () = started => {}
        }
    });
    while numbers(&path).into_iter().any(is_running) {
        std::thread::sleep(look);
    }
}
