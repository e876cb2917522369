//! Any answer of the credential endpoint, the first byte choosing its status: complete credentials that
//! end, or a refusal that a terminal can show.

use std::time::{Duration, SystemTime};

use headwater_msk::credentials::IotSettings;
use headwater_msk::credentials::iot::credentials_of;

pub(crate) fn run(bytes: &[u8]) {
    let [choice, body @ ..] = bytes else {
        return;
    };
    let status = [200, 200, 200, 400, 403, 404, 429, 503][usize::from(choice % 8)];
    let settings = IotSettings {
        endpoint: "https://localhost".to_owned(),
        role_alias: "fleet".to_owned(),
        thing: Some("pi-7".to_owned()),
        certificate: "/device.crt".into(),
        key: "/device.key".parse().expect("a path"),
        ca: None,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    match credentials_of(status, body, now, &settings) {
        Ok(credentials) => {
            assert_eq!(status, 200);
            assert!(!credentials.access_key_id().is_empty());
            assert!(!credentials.secret_access_key().is_empty());
            assert!(
                credentials
                    .session_token()
                    .is_some_and(|token| !token.is_empty())
            );
            assert!(credentials.expiry().is_some());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            // 200 characters of the server's, each of at most 12 bytes when it is escaped.
            assert!(text.len() < 4096, "{}", text.len());
        }
    }
}
