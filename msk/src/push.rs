//! A token into a running client of librdkafka, from any thread.
//!
//! The one place of this crate with `unsafe`, since the `rdkafka` crate has no call for it: its own
//! way is a callback that runs only while the client is polled, ten seconds after a failure at the
//! earliest, and with an idle producer hardly ever.

#![expect(
    unsafe_code,
    reason = "rd_kafka_oauthbearer_set_token has no safe wrapper; see the module's head"
)]

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings::rd_kafka_oauthbearer_set_token;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;
use zeroize::Zeroizing;

use crate::credentials::session::LocalToken;

/// Hands `token` to `client`, which wakes connections that wait for one.
///
/// # Errors
/// librdkafka refuses it: it has expired by the local clock, or the client does not use tokens.
pub fn set_token<C: ClientContext>(client: &Client<C>, token: &LocalToken) -> Result<(), String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(token.token.text.len() + 1));
    bytes.extend_from_slice(token.token.text.as_bytes());
    bytes.push(0);
    let text = CStr::from_bytes_with_nul(&bytes).map_err(|error| error.to_string())?;
    let mut reason = [0_u8; 256];
    // SAFETY: `client` is borrowed, so its handle is alive during the call, which takes librdkafka's
    // own locks and may be made from any thread (rdkafka.h). All pointers are to memory of this
    // frame, strings end in NUL, `reason` is written within the size that is passed, and no
    // extensions are passed (null, 0).
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            text.as_ptr(),
            token.expires_local_ms,
            c"headwater".as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr().cast(),
            reason.len(),
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let reason = CStr::from_bytes_until_nul(&reason).unwrap_or_default();
    Err(reason.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::{Duration, SystemTime};

    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, Producer as _};

    use crate::token::Token;

    fn local(expires_local_ms: i64) -> LocalToken {
        LocalToken {
            token: Token {
                text: "dG9rZW4".to_owned().into(),
                lifetime: Duration::from_secs(900),
                expires: SystemTime::UNIX_EPOCH,
            },
            expires_local_ms,
        }
    }

    #[test]
    fn librdkafka_takes_a_token_by_its_own_clock() {
        let client: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("security.protocol", "sasl_ssl")
            .set("sasl.mechanism", "OAUTHBEARER")
            .create()
            .unwrap();
        assert_eq!(set_token(client.client(), &local(i64::MAX / 1000)), Ok(()));
        let refused = set_token(client.client(), &local(1)).unwrap_err();
        assert!(refused.contains("unexpired"), "{refused}");
    }

    #[test]
    fn a_client_without_tokens_refuses_one() {
        let client: BaseProducer = ClientConfig::new().create().unwrap();
        let refused = set_token(client.client(), &local(i64::MAX / 1000)).unwrap_err();
        assert!(refused.contains("OAUTHBEARER"), "{refused}");
    }
}
