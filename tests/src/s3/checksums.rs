//! Checks what a client says its bytes add up to: `x-amz-checksum-*` as headers or as trailers of an
//! `aws-chunked` body, and `Content-MD5`. Nothing is stored that does not agree.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::Checksum;
use s3s::{S3Result, TrailingHeaders, s3_error};

/// Adds the checksums that came behind the body. Read the body to its end first.
pub(super) fn add_trailers(sent: &mut Checksum, trailers: Option<&TrailingHeaders>) {
    let Some(trailers) = trailers else {
        return;
    };
    trailers.read(|headers| {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let fill = |slot: &mut Option<String>, name: &str| {
            if slot.is_none() {
                *slot = text(name);
            }
        };
        fill(&mut sent.checksum_crc32, "x-amz-checksum-crc32");
        fill(&mut sent.checksum_crc32c, "x-amz-checksum-crc32c");
        fill(&mut sent.checksum_crc64nvme, "x-amz-checksum-crc64nvme");
        fill(&mut sent.checksum_sha1, "x-amz-checksum-sha1");
        fill(&mut sent.checksum_sha256, "x-amz-checksum-sha256");
    });
}

/// Returns the checksum to keep beside the bytes: the one sent, else CRC-64/NVME, as S3 does.
///
/// # Errors
/// `BadDigest` if one that was sent is not that of the bytes.
pub(super) fn verify(sent: &Checksum, md5: Option<&str>, bytes: &[u8]) -> S3Result<Checksum> {
    if md5.is_some_and(|md5| md5 != BASE64_STANDARD.encode(Md5::checksum(bytes))) {
        return Err(s3_error!(
            BadDigest,
            "the Content-MD5 is not that of the body"
        ));
    }
    let mut hasher = ChecksumHasher {
        crc32: sent.checksum_crc32.as_ref().map(|_| Crc32::new()),
        crc32c: sent.checksum_crc32c.as_ref().map(|_| Crc32c::new()),
        sha1: sent.checksum_sha1.as_ref().map(|_| Sha1::new()),
        sha256: sent.checksum_sha256.as_ref().map(|_| Sha256::new()),
        crc64nvme: sent.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
    };
    let nothing_sent = values(sent).iter().all(|value| value.is_none());
    if nothing_sent {
        hasher.crc64nvme = Some(Crc64Nvme::new());
    }
    hasher.update(bytes);
    let found = hasher.finalize();
    if !nothing_sent && values(&found) != values(sent) {
        return Err(s3_error!(BadDigest, "a checksum is not that of the body"));
    }
    Ok(found)
}

/// The five values in a fixed order.
pub(super) fn values(checksum: &Checksum) -> [Option<&String>; 5] {
    [
        checksum.checksum_crc32.as_ref(),
        checksum.checksum_crc32c.as_ref(),
        checksum.checksum_crc64nvme.as_ref(),
        checksum.checksum_sha1.as_ref(),
        checksum.checksum_sha256.as_ref(),
    ]
}

/// Returns bytes as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the MD5 of `bytes`.
pub(super) fn md5(bytes: &[u8]) -> Vec<u8> {
    Md5::checksum(bytes).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_must_agree() {
        // CRC-32/ISO-HDLC of "123456789" is CBF43926 (the check value of its definition).
        let sent = Checksum {
            checksum_crc32: Some(BASE64_STANDARD.encode([0xcb, 0xf4, 0x39, 0x26])),
            ..Checksum::default()
        };
        let kept = verify(&sent, None, b"123456789").unwrap();
        assert_eq!(values(&kept), values(&sent));
        assert!(verify(&sent, None, b"123456780").is_err());
        assert!(verify(&Checksum::default(), Some("AAAA"), b"").is_err());
    }

    #[test]
    fn without_one_crc64nvme_is_kept() {
        // CRC-64/NVME of "123456789" is AE8B14860A799888 (the check value of its definition).
        let kept = verify(&Checksum::default(), None, b"123456789").unwrap();
        let expect = 0xAE8B_1486_0A79_9888_u64.to_be_bytes();
        assert_eq!(
            kept.checksum_crc64nvme,
            Some(BASE64_STANDARD.encode(expect))
        );
    }
}
