//! What this crate holds of a secret is wiped when it is dropped: this process's own memory is searched
//! for it. One test, since each would find what the others read.
//!
//! Not searched for is what others make of a secret: `aws-sigv4` formats `AWS4<secret>` and the request
//! with the session token, hyper and OpenSSL have buffers, librdkafka a copy of the token. See
//! docs/msk.md.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime};

use headwater_msk::credentials::iot::credentials_of;
use headwater_msk::credentials::{IotSettings, process};
use headwater_msk::token::sign;
use zeroize::Zeroizing;

/// Bytes that memory is read in.
const PIECE: usize = 1 << 20;

/// Something to look for, kept so that it is not found where it is kept.
struct Needle(Vec<u8>);

impl Needle {
    fn new(text: &str) -> Self {
        Self(text.bytes().map(|byte| !byte).collect())
    }

    /// In how many places of this process's writable memory it stands.
    fn copies(&self) -> usize {
        let memory = File::open("/proc/self/mem").expect("as the kernel has it");
        let maps = fs::read_to_string("/proc/self/maps").expect("as the kernel has it");
        let mut piece = vec![0_u8; PIECE];
        let own = piece.as_ptr() as u64;
        let own = own..own + PIECE as u64;
        let mut found = 0;
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, rights) = (
                fields.next().expect("as the kernel has it"),
                fields.next().expect("as the kernel has it"),
            );
            if !rights.starts_with("rw") || line.contains("[v") {
                continue;
            }
            let (from, to) = range.split_once('-').expect("as the kernel has it");
            let number = |text| u64::from_str_radix(text, 16).expect("as the kernel has it");
            let (mut at, to) = (number(from), number(to));
            while at < to {
                let want = PIECE.min(usize::try_from(to - at).expect("as the kernel has it"));
                let Ok(read @ 1..) = memory.read_at(&mut piece[..want], at) else {
                    break;
                };
                for (index, window) in piece[..read].windows(self.0.len()).enumerate() {
                    let is_it = window.iter().zip(&self.0).all(|(a, b)| *a == !*b);
                    found += usize::from(is_it && !own.contains(&(at + index as u64)));
                }
                // One that lies across the end is found in the next piece.
                let step = match read == want && at + (read as u64) < to {
                    true => read - (self.0.len() - 1),
                    false => read,
                };
                at += step as u64;
            }
        }
        found
    }
}

/// A text that stands nowhere in the program.
fn secret(seed: u64) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(80));
    let mut state = seed ^ u64::from(std::process::id());
    while text.len() < 64 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.push(char::from(
            b'a' + u8::try_from((state >> 33) % 26).expect("as the kernel has it"),
        ));
    }
    text
}

/// JSON with two secrets in it, made without a copy that stays.
fn body(parts: [&str; 5]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(4096));
    for part in parts {
        body.extend_from_slice(part.as_bytes());
    }
    body
}

fn settings() -> IotSettings {
    IotSettings {
        endpoint: "https://localhost".into(),
        role_alias: "fleet".into(),
        thing: None,
        certificate: "/c".into(),
        key: "/k".parse().expect("as the kernel has it"),
        ca: None,
    }
}

#[test]
fn a_secret_leaves_no_copy_of_ours() {
    let (key, token) = (secret(1), secret(2));
    let needles = [Needle::new(&key), Needle::new(&token)];
    let found = || needles.each_ref().map(Needle::copies);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (expiration, wrong) = ("2027-01-15T09:30:00Z\"}}", "tomorrow\"}}");
    let iot = |end| {
        let head = "{\"credentials\":{\"accessKeyId\":\"A\",\"secretAccessKey\":\"";
        let (middle, tail) = (
            "\",\"sessionToken\":\"",
            format!("\",\"expiration\":\"{end}"),
        );
        body([head, &key, middle, &token, &tail])
    };
    let printed = |version| {
        let head = format!("{{\"Version\":{version},\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"");
        body([&head, &key, "\",\"SessionToken\":\"", &token, "\"}"])
    };
    // The search finds what is there: the two themselves, and what is made of them.
    assert_eq!(found(), [1, 1]);
    for body in [iot(expiration), iot(wrong)] {
        let taken = credentials_of(200, &body, now, &settings());
        assert!(found().iter().all(|copies| *copies >= 2), "{taken:?}");
    }
    assert_eq!(found(), [1, 1], "an answer of the credential endpoint");
    for body in [printed(1), printed(2)] {
        let taken = process::parse(&body);
        assert!(found().iter().all(|copies| *copies >= 2), "{taken:?}");
    }
    assert_eq!(found(), [1, 1], "the output of a program");

    // A token opens the door as long as it lives: its text is wiped as well.
    let credentials = credentials_of(200, &iot(expiration), now, &settings()).unwrap();
    let signed = sign("eu-west-1", &credentials, now).unwrap();
    let text = Needle::new(&signed.text[200..264]);
    assert_eq!(text.copies(), 1);
    drop(signed);
    assert_eq!(text.copies(), 0, "a token");
}
