//! Looks for secrets where none may be.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use std::fs;
use std::path::{Path, PathBuf};

/// A beginning of a secret that is as long as this is unlike anything else.
const BYTES_LEAST: usize = 16;

/// What is looked for.
#[derive(Debug)]
pub struct Needles(Vec<Vec<u8>>);

impl Needles {
    /// These secrets, and every token: all of those begin alike. Of a secret, as much of its beginning as
    /// looks the same in JSON, in a URL and in a shell.
    pub fn new(secrets: &[String]) -> Self {
        let beginning = |secret: &String| -> Vec<u8> {
            let plain = secret.bytes().take_while(u8::is_ascii_alphanumeric);
            let plain: Vec<u8> = plain.collect();
            match plain.len() >= BYTES_LEAST {
                true => plain,
                false => secret.clone().into_bytes(),
            }
        };
        let mut needles: Vec<_> = secrets.iter().map(beginning).collect();
        // 12 bytes are 16 letters: what follows does not change them.
        needles.push(BASE64_URL_SAFE_NO_PAD.encode("https://kafk").into_bytes());
        Self(needles)
    }

    /// # Panics
    /// If one is in there.
    #[track_caller]
    pub fn assert_not_in(&self, bytes: &[u8], place: &str) {
        for needle in &self.0 {
            let found = bytes
                .windows(needle.len())
                .position(|window| window == needle);
            let around = found.map(|at| {
                let before = &bytes[at.saturating_sub(200)..at];
                String::from_utf8_lossy(before).into_owned()
            });
            assert!(around.is_none(), "{place} holds a secret, after {around:?}");
        }
    }
}

/// Nothing below the folders has any of the secrets in it, nor a token, at whatever depth. Returns how
/// many files were searched.
///
/// # Panics
/// If a secret is found.
#[track_caller]
pub fn assert_nowhere(secrets: &[String], folders: &[&Path]) -> usize {
    let needles = Needles::new(secrets);
    let mut seen = 0;
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    while let Some(path) = todo.pop() {
        let kind = fs::symlink_metadata(&path)
            .expect("an entry of ours")
            .file_type();
        if kind.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of ours");
            todo.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        if !kind.is_file() {
            continue;
        }
        let bytes = fs::read(&path).expect("a file of ours");
        seen += 1;
        needles.assert_not_in(&bytes, &path.display().to_string());
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "holds a secret")]
    fn a_secret_is_found_in_a_url() {
        let secret = "0123456789abcdefXYZ/+and more".to_owned();
        let text = b"...?token=0123456789abcdefXYZ%2F%2Band%20more";
        Needles::new(&[secret]).assert_not_in(text, "here");
    }

    #[test]
    #[should_panic(expected = "holds a secret")]
    fn a_token_is_found_whosever_it_is() {
        let url = "https://kafka.us-west-2.amazonaws.com/?Action=x";
        let token = BASE64_URL_SAFE_NO_PAD.encode(url);
        Needles::new(&[]).assert_not_in(token.as_bytes(), "here");
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        Needles::new(&["short/1".to_owned()]).assert_not_in(b"short and long", "here");
    }
}
