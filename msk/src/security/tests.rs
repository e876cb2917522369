use super::*;

fn problems(toml: &str, brokers: &[&str]) -> Vec<String> {
    problems_with(toml, brokers, &CredentialSettings::default())
}

fn problems_with(toml: &str, brokers: &[&str], credentials: &CredentialSettings) -> Vec<String> {
    let security: Security = crate::config_file::parse(toml).unwrap();
    let brokers: Vec<_> = brokers.iter().map(ToString::to_string).collect();
    security
        .problems(&brokers, credentials)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Exactly one problem, of this key.
fn assert_refused(toml: &str, broker: &str, key: &str) {
    let problems = problems(toml, &[broker]);
    assert!(
        problems.len() == 1 && problems[0].starts_with(&format!("{key}: ")),
        "{toml} {broker}: {problems:?}"
    );
}

const MSK: &str = "b-1.fleet.abc123.c2.kafka.eu-west-1.amazonaws.com";

#[test]
fn plaintext_leaves_the_machine_only_where_that_is_said() {
    for local in [
        "localhost:1",
        "LOCALHOST:1",
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
    ] {
        assert_eq!(problems("", &[local]), [""; 0], "{local}");
    }
    for remote in [
        "kafka:9092",
        "10.0.0.1:9092",
        "0.0.0.0:9092",
        "localhost.example.com:9092",
        "128.0.0.1:9092",
        "[::ffff:10.0.0.1]:9092",
    ] {
        assert_refused("", remote, "kafka.security.mode");
        assert_eq!(problems("allow_plaintext = true", &[remote]), [""; 0]);
    }
}

#[test]
fn each_mode_has_what_it_needs_and_nothing_else() {
    let broker = "kafka:1";
    assert_eq!(problems("mode = 'tls'", &[broker]), [""; 0]);
    let mtls = "mode = 'mtls'\ncertificate = '/c'\nkey = 'credential:k'\n";
    assert_eq!(problems(mtls, &[broker]), [""; 0]);
    let scram = "mode = 'scram-sha-512'\nusername = 'u'\npassword_file = '/p'\n";
    assert_eq!(problems(scram, &[broker]), [""; 0]);
    assert_eq!(
        problems("mode = 'iam'\nregion = 'eu-west-1'", &[broker]),
        [""; 0]
    );
    assert_eq!(problems("mode = 'mtls'", &[broker]).len(), 2);
    assert_eq!(problems("mode = 'scram-sha-512'", &[broker]).len(), 2);
    for (toml, key) in [
        ("mode = 'tls'\nallow_plaintext = true", "allow_plaintext"),
        ("allow_plaintext = true\nca = '/a'", "ca"),
        ("mode = 'tls'\nkey = '/k'", "key"),
        ("mode = 'tls'\nregion = 'eu-west-1'", "region"),
        ("mode = 'tls'\ncertificate = '/c'", "certificate"),
        ("mode = 'tls'\nusername = 'u'", "username"),
        ("mode = 'tls'\npassword_file = '/p'", "password_file"),
        ("mode = 'tls'\nsession_name = 'me'", "session_name"),
        ("mode = 'tls'\nca = 'ca.pem'", "ca"),
        (
            "mode = 'mtls'\ncertificate = 'c'\nkey = '/k'",
            "certificate",
        ),
        ("mode = 'mtls'\ncertificate = '/c'\nkey = 'k'", "key"),
        (
            "mode = 'scram-sha-512'\nusername = ''\npassword_file = '/p'",
            "username",
        ),
        (
            "mode = 'iam'\nregion = 'eu-west-1'\nsession_name = 'a b'",
            "session_name",
        ),
        ("mode = 'iam'\nregion = 'Europe'", "region"),
        ("mode = 'iam'", "region"),
    ] {
        assert_refused(toml, broker, &format!("kafka.security.{key}"));
    }
}

#[test]
fn the_region_comes_from_the_brokers_where_they_have_one() {
    let region = |brokers: &[&str]| {
        let brokers: Vec<_> = brokers.iter().map(ToString::to_string).collect();
        let security = Security {
            mode: Mode::Iam,
            ..Security::default()
        };
        let region = security.region(&brokers).map(str::to_owned);
        let is_fine = security
            .problems(&brokers, &CredentialSettings::default())
            .is_empty();
        assert_eq!(region.is_some(), is_fine, "{brokers:?}");
        region
    };
    for (host, expected) in [
        (MSK, "eu-west-1"),
        (
            "boot-x.c1.kafka-serverless.us-east-1.amazonaws.com",
            "us-east-1",
        ),
        ("b-1.x.y.c3.kafka.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        (
            "b-1-public.fleet.abc.c2.kafka.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
    ] {
        assert_eq!(
            region(&[&format!("{host}:9098")]).as_deref(),
            Some(expected)
        );
    }
    for host in [
        "kafka.example.com",
        "ec2-1-2-3-4.eu-west-1.compute.amazonaws.com",
        "kafka.amazonaws.com",
        "evil-kafka.eu-west-1.amazonaws.com",
        "b.kafka.eu-west-1.amazonaws.com.evil.example",
    ] {
        assert_eq!(region(&[&format!("{host}:9098")]), None, "{host}");
    }
    let other = MSK.replace("eu-west-1", "eu-west-2");
    let two = [format!("{MSK}:9098"), format!("{other}:9098")];
    assert_eq!(
        problems("mode = 'iam'", &[&two[0], &two[1]]).len(),
        1,
        "two regions are a mistake"
    );
}

#[test]
fn a_port_of_msk_for_another_mode_is_told_apart() {
    let iam = "mode = 'iam'";
    assert_eq!(problems(iam, &[&format!("{MSK}:9098")]), [""; 0]);
    assert_eq!(problems(iam, &[&format!("{MSK}:9198")]), [""; 0]);
    // A port of a PrivateLink endpoint, or of a load balancer.
    assert_eq!(problems(iam, &[&format!("{MSK}:14001")]), [""; 0]);
    assert_refused(iam, &format!("{MSK}:9096"), "kafka.brokers");
    assert_refused("mode = 'tls'", &format!("{MSK}:9098"), "kafka.brokers");
    assert_eq!(
        problems("mode = 'tls'", &["kafka.example.com:9098"]),
        [""; 0]
    );
}

#[test]
fn unknown_modes_and_keys_are_named() {
    let error = crate::config_file::parse::<Security>("mode = 'scram'").unwrap_err();
    assert!(error.contains("scram-sha-512"), "{error}");
    let error = crate::config_file::parse::<Security>("verify = false").unwrap_err();
    assert!(error.contains("unknown field `verify`"), "{error}");
}

#[test]
fn what_is_written_back_means_the_same() {
    let security: Security = crate::config_file::parse(
        "mode = 'mtls'\nca = '/a'\ncertificate = '/c'\nkey = 'credential:k'\n",
    )
    .unwrap();
    let text = toml::to_string(&security).unwrap();
    assert_eq!(crate::config_file::parse::<Security>(&text), Ok(security));
}

#[test]
fn host_names_are_verified_in_every_mode_with_tls() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "hunter2\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = path.display();
    for (toml, protocol) in [
        ("mode = 'tls'\nca = '/a'\n".to_owned(), "ssl"),
        (
            format!("mode = 'mtls'\nca = '/a'\ncertificate = '/c'\nkey = '{path}'\n"),
            "ssl",
        ),
        (
            format!(
                "mode = 'scram-sha-512'\nca = '/a'\nusername = 'u'\npassword_file = '{path}'\n"
            ),
            "sasl_ssl",
        ),
        ("mode = 'iam'\nca = '/a'\n".to_owned(), "sasl_ssl"),
    ] {
        let security: Security = crate::config_file::parse(&toml).unwrap();
        let settings = security.settings().unwrap();
        for expected in [
            ("security.protocol", protocol),
            ("enable.ssl.certificate.verification", "true"),
            ("ssl.endpoint.identification.algorithm", "https"),
            ("ssl.ca.location", "/a"),
        ] {
            assert!(
                settings
                    .iter()
                    .any(|(name, value)| (*name, value.as_str()) == expected),
                "{toml}: {expected:?}"
            );
        }
        let password = settings.iter().find(|(name, _)| *name == "sasl.password");
        let expected = (protocol == "sasl_ssl" && toml.contains("scram")).then_some("hunter2");
        assert_eq!(password.map(|(_, value)| value.as_str()), expected);
    }
}

#[test]
fn a_session_name_can_be_made_of_any_name() {
    for (from, name) in [
        ("pi-7", "pi-7"),
        ("a b/ü", "a-b--"),
        ("", "--"),
        ("x", "x-"),
    ] {
        assert_eq!(session_name_from(from), name);
        assert!(is_session_name(name));
    }
    assert!(is_session_name(&session_name_from(&"x".repeat(300))));
    for name in ["", "a", "a b", &"x".repeat(65)] {
        assert!(!is_session_name(name));
    }
}
