//! The MSK of the tests itself: who is let in, who is refused, and why. What is proven of agents and
//! loaders on it is worth what it refuses.

use headwater_tests::kafka::msk::{SCRAM_AGENT, SCRAM_LOADER, as_device, as_scram};
use headwater_tests::kafka::visitor::{Visitor, knock};
use headwater_tests::kafka::{Listener, Msk};
use headwater_tests::pki::DeviceCertificate;

/// What a client is told that has nothing to show but this configuration.
fn told(config: &rdkafka::ClientConfig) -> Result<(), String> {
    knock(config, Visitor::new())
}

#[track_caller]
fn assert_refused(config: &rdkafka::ClientConfig, why: &str) {
    let text = told(config).expect_err("it is refused");
    assert!(text.contains(why), "{why:?} is not in {text:?}");
}

#[test]
fn tls_is_what_it_should_be() {
    let msk = Msk::shared();
    assert_eq!(told(&msk.client(Listener::Tls)), Ok(()));
    let mut trusting_another = msk.client(Listener::Tls);
    trusting_another.set("ssl.ca.location", msk.pki().stranger_ca().to_string_lossy());
    assert_refused(&trusting_another, "certificate verify failed");
    // Nothing else is wrong with these two: who does not look is let in.
    let careless = [
        (
            Listener::TlsExpired,
            "enable.ssl.certificate.verification",
            "false",
        ),
        (
            Listener::TlsWrongHost,
            "ssl.endpoint.identification.algorithm",
            "none",
        ),
    ];
    for (listener, key, value) in careless {
        assert_refused(&msk.client(listener), "certificate verify failed");
        assert_eq!(told(msk.client(listener).set(key, value)), Ok(()));
    }
}

#[test]
fn mtls_wants_a_device_of_the_right_authority() {
    let msk = Msk::shared();
    let with = |what| {
        let mut config = msk.client(Listener::Mtls);
        as_device(&mut config, &msk.pki().device("pi-7", what));
        config
    };
    assert_eq!(told(&with(DeviceCertificate::Good)), Ok(()));
    assert_refused(&msk.client(Listener::Mtls), "alert bad certificate");
    assert_refused(&with(DeviceCertificate::Stranger), "alert");
    assert_refused(&with(DeviceCertificate::Expired), "alert");
}

#[test]
fn scram_wants_the_password_of_the_day() {
    let msk = Msk::start();
    let with = |user| {
        let mut config = msk.client(Listener::Scram);
        as_scram(&mut config, user);
        config
    };
    assert_eq!(told(&with(SCRAM_AGENT)), Ok(()));
    assert_eq!(told(&with(SCRAM_LOADER)), Ok(()));
    assert_refused(&with(("agent", "guessed")), "Authentication failed");
    msk.set_scram_password(SCRAM_AGENT.0, "another");
    assert_refused(&with(SCRAM_AGENT), "Authentication failed");
    assert_eq!(told(&with((SCRAM_AGENT.0, "another"))), Ok(()));
}
