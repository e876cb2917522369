//! What an external program may print: credentials, or one of three refusals, whatever it was.

use headwater_msk::credentials::process::parse;

pub(crate) fn run(bytes: &[u8]) {
    match parse(bytes) {
        Ok(credentials) => {
            assert!(!credentials.access_key_id().is_empty());
            assert!(!credentials.secret_access_key().is_empty());
            assert_ne!(credentials.session_token(), Some(""));
        }
        Err(error) => {
            let known = [
                "prints something other than the documented JSON",
                "prints another Version than 1",
                "prints an Expiration that is no time",
            ];
            let text = error.to_string();
            assert!(known.iter().any(|known| text.ends_with(known)), "{text}");
        }
    }
}
