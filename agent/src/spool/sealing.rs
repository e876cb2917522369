//! Encryption of spooled batches: a card that is stolen, or sold, tells nothing of the records on it.
//!
//! ```text
//! sealed blob = key id (8 bytes) ‖ nonce (12) ‖ ChaCha20-Poly1305(blob; columns) ‖ tag (16)
//! ```
//!
//! - ChaCha20-Poly1305 (RFC 8439) by the OpenSSL that is linked anyway: on a small ARM core without
//!   AES instructions three times as fast as AES-GCM, and free of timing by tables.
//! - Each batch has a nonce drawn at random. Of 96 bits, 2^32 batches may be sealed with one key
//!   (NIST SP 800-38D, 8.3, for nonces of this size): one a second for 136 years.
//! - The columns beside the blob are authenticated with it: no batch can be put in another's place.
//! - The id of a key is drawn from the key by SHA-256, so that a wrong key shows as what it is and
//!   is not taken for damage.
//!
//! What was spooled before there was a key lies in the clear until it is delivered, and is wiped from the
//! database's files when the spool is empty next (`store/vacuum.rs`).
//!
//! Not encrypted: names of streams, offsets and counts, and everything outside of the spool.

use std::fmt;
use std::io;

use headwater_msk::security::secret_file::{SecretError, SecretFile};
use openssl::sha::Sha256;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use thiserror::Error;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// A key's public name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; ID_BYTES]);

impl KeyId {
    /// As a number, for a column.
    pub(super) fn number(self) -> i64 {
        i64::from_le_bytes(self.0)
    }

    pub(super) fn of_number(number: i64) -> Self {
        Self(number.to_le_bytes())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that cannot be used. Never holds any of it.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Its file.
    #[error("{key}: {source}")]
    Secret {
        /// The setting.
        key: &'static str,
        /// What is wrong.
        source: SecretError,
    },
    /// Its form.
    #[error(
        "{key}: {file} holds no key: it must be 64 hex digits; make one with: openssl rand -hex 32"
    )]
    Form {
        /// The setting.
        key: &'static str,
        /// The file.
        file: SecretFile,
    },
}

/// Where the keys are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// The one that seals; none: batches are not sealed.
    pub key: Option<SecretFile>,
    /// Those that sealed before.
    pub old_keys: Vec<SecretFile>,
}

struct Key {
    id: KeyId,
    secret: Zeroizing<[u8; KEY_BYTES]>,
}

/// The keys, in memory.
#[derive(Default)]
pub struct Keys {
    current: Option<Key>,
    old: Vec<Key>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// Why a blob does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed {
    /// It was sealed with a key that is not here.
    OtherKey(KeyId),
    /// It is not what was sealed.
    Broken,
}

impl Keys {
    /// Reads the keys.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(files: &KeyFiles) -> Result<Self, KeyError> {
        let load = |key, file: &SecretFile| {
            let text = file
                .read()
                .map_err(|source| KeyError::Secret { key, source })?;
            Key::parse(&text).ok_or_else(|| KeyError::Form {
                key,
                file: file.clone(),
            })
        };
        let current = files.key.as_ref().map(|file| load("spool.key", file));
        let old = files.old_keys.iter();
        Ok(Self {
            current: current.transpose()?,
            old: old
                .map(|file| load("spool.old_keys", file))
                .collect::<Result<_, _>>()?,
        })
    }

    #[cfg(test)]
    pub(crate) fn of(current: Option<u8>, old: &[u8]) -> Self {
        let key = |byte: u8| Key::new(Zeroizing::new([byte; KEY_BYTES]));
        Self {
            current: current.map(key),
            old: old.iter().map(|byte| key(*byte)).collect(),
        }
    }

    /// The key that seals.
    pub fn current(&self) -> Option<KeyId> {
        self.current.as_ref().map(|key| key.id)
    }

    /// All of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.current.iter().chain(&self.old).map(|key| key.id)
    }

    /// Seals a blob; nothing where there is no key for it.
    pub(super) fn seal(&self, columns: &[u8], blob: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(key) = &self.current else {
            return Ok(None);
        };
        let (mut nonce, mut tag) = ([0; NONCE_BYTES], [0; TAG_BYTES]);
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let secret = key.secret.as_slice();
        let cipher = Cipher::chacha20_poly1305();
        let sealed = encrypt_aead(cipher, secret, Some(&nonce), columns, blob, &mut tag)?;
        let mut out = Vec::with_capacity(ID_BYTES + NONCE_BYTES + sealed.len() + TAG_BYTES);
        for part in [&key.id.0[..], &nonce, &sealed, &tag] {
            out.extend_from_slice(part);
        }
        Ok(Some(out))
    }

    /// Opens a blob.
    pub(super) fn open(&self, columns: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Sealed> {
        let id = id_of(sealed).ok_or(Sealed::Broken)?;
        let rest = &sealed[ID_BYTES..];
        let (nonce, rest) = rest.split_at_checked(NONCE_BYTES).ok_or(Sealed::Broken)?;
        let text = rest.len().checked_sub(TAG_BYTES).ok_or(Sealed::Broken)?;
        let (text, tag) = rest.split_at(text);
        let mut keys = self.current.iter().chain(&self.old);
        let key = (keys.find(|key| key.id == id)).ok_or(Sealed::OtherKey(id))?;
        let secret = key.secret.as_slice();
        let cipher = Cipher::chacha20_poly1305();
        decrypt_aead(cipher, secret, Some(nonce), columns, text, tag).map_err(|_| Sealed::Broken)
    }
}

impl Key {
    fn new(secret: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut sum = Sha256::new();
        sum.update(b"headwater spool key");
        sum.update(secret.as_slice());
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&sum.finish()[..ID_BYTES]);
        Self {
            id: KeyId(id),
            secret,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self::new(secret))
    }
}

/// With which key a blob was sealed.
pub(super) fn id_of(sealed: &[u8]) -> Option<KeyId> {
    sealed.first_chunk().map(|id| KeyId(*id))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_its_columns_alone() {
        let keys = Keys::of(Some(1), &[]);
        let sealed = keys.seal(b"columns", b"records").unwrap().unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"records"));
        let again = keys.seal(b"columns", b"records").unwrap().unwrap();
        assert_ne!(sealed, again, "another nonce");
        assert_eq!(keys.open(b"columns", &sealed), Ok(b"records".to_vec()));
        let rotated = Keys::of(Some(2), &[3, 1]);
        assert_eq!(rotated.open(b"columns", &sealed), Ok(b"records".to_vec()));
        assert_eq!(keys.open(b"other", &sealed), Err(Sealed::Broken));
        let id = keys.current().unwrap();
        let without = [Keys::default(), Keys::of(Some(2), &[3])];
        for keys in without {
            assert_eq!(keys.open(b"columns", &sealed), Err(Sealed::OtherKey(id)));
        }
        for at in ID_BYTES..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(keys.open(b"columns", &flipped), Err(Sealed::Broken), "{at}");
        }
        for len in 0..ID_BYTES + NONCE_BYTES + TAG_BYTES {
            assert!(keys.open(b"columns", &sealed[..len]).is_err(), "{len}");
        }
        assert_eq!(Keys::default().seal(b"", b"x").unwrap(), None);
        assert_eq!(KeyId::of_number(id.number()), id);
    }

    #[test]
    fn keys_are_files_of_64_hex_digits() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            SecretFile::Path(path)
        };
        let good = file("good", &format!("{}\n", "0aF3".repeat(16)));
        let load = |key: &SecretFile, old: &SecretFile| {
            Keys::load(&KeyFiles {
                key: Some(key.clone()),
                old_keys: vec![old.clone()],
            })
        };
        let keys = load(&good, &good).unwrap();
        assert_eq!(format!("{keys:?}").len(), "[, ]".len() + 32, "{keys:?}");
        for (name, text) in [
            ("short", "0a".repeat(31)),
            ("long", "0a".repeat(33)),
            ("other", "0g".repeat(32)),
            ("wide", "é".repeat(32)),
            ("signed", "+1".repeat(32)),
        ] {
            let error = load(&good, &file(name, &text)).unwrap_err().to_string();
            assert!(
                error.contains("spool.old_keys") && error.contains(name),
                "{error}"
            );
            assert!(!error.contains(&text), "{error}");
        }
    }
}
