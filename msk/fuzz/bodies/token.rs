//! Anybody's token, as it is and as the URL in one: refused, or taken apart into parts that a terminal
//! can show, with the same again for the same token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_msk::token::decode;

pub(crate) fn run(bytes: &[u8]) {
    let plain = String::from_utf8_lossy(bytes);
    for token in [plain.as_ref(), &URL_SAFE_NO_PAD.encode(bytes)] {
        match decode(token) {
            Ok(parts) => {
                let shown = [
                    &parts.host,
                    &parts.action,
                    &parts.algorithm,
                    &parts.key_id,
                    &parts.scope,
                    &parts.date,
                    &parts.signed_headers,
                    &parts.user_agent,
                ];
                assert!(!shown.iter().any(|part| part.chars().any(char::is_control)));
                assert_eq!(parts.scope.split('/').count(), 4);
                assert_eq!(parts.date.len(), 16);
                assert_eq!(decode(token), Ok(parts));
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!text.chars().any(char::is_control), "{text:?}");
                assert!(text.len() < 1024, "{text}");
            }
        }
    }
}
