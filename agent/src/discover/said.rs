//! Tells a trouble once, and again only when it changed: a scan every ten seconds must not fill a
//! log with one sentence.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{Monotonic, monotonic};

/// Most paths of which is remembered what was said. What is wrong with more of them is not told one by
/// one: they could not be remembered, and would be told at every scan.
const PATHS_MAX: usize = 1024;
/// What was not seen for so long makes room.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// What was last said of each path, and when that was true last.
#[derive(Debug, Default)]
pub struct Said {
    texts: HashMap<PathBuf, (String, Monotonic)>,
    /// That there are too many was said.
    is_full: bool,
    /// Nothing can be stale before then.
    full_until: Monotonic,
}

impl Said {
    /// Whether `text` is not what was last said of `path`, and can be; takes note of it.
    pub fn is_news(&mut self, path: &Path, text: &str) -> bool {
        self.is_news_at(path, text, monotonic())
    }

    /// As [`Said::is_news`], at a time that its owner knows.
    pub fn is_news_at(&mut self, path: &Path, text: &str, now: Monotonic) -> bool {
        if let Some((said, at)) = self.texts.get_mut(path) {
            *at = now;
            if said == text {
                return false;
            }
        } else if self.texts.len() >= PATHS_MAX && !self.makes_room(now) {
            return false;
        }
        self.texts.insert(path.to_owned(), (text.to_owned(), now));
        true
    }

    /// Whether there was something to say of `path`, which is over now.
    pub fn is_over(&mut self, path: &Path) -> bool {
        self.texts.remove(path).is_some()
    }

    fn makes_room(&mut self, now: Monotonic) -> bool {
        if now >= self.full_until {
            self.texts.retain(|_, (_, at)| now.since(*at) < STALE_AFTER);
            let oldest = self.texts.values().map(|(_, at)| *at).min();
            self.full_until = oldest.unwrap_or(now).plus(STALE_AFTER);
        }
        let has_room = self.texts.len() < PATHS_MAX;
        if !has_room && !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                "something is wrong with more than {PATHS_MAX} paths: the others are not told one by one"
            );
        }
        self.is_full &= !has_room;
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(0);

    #[test]
    fn a_trouble_is_news_once_until_it_changes_or_ends() {
        let mut said = Said::default();
        let path = Path::new("/a");
        assert!(said.is_news_at(path, "no permission", NOW));
        assert!(!said.is_news_at(path, "no permission", NOW));
        assert!(said.is_news_at(path, "a directory", NOW));
        assert!(said.is_over(path));
        assert!(!said.is_over(path));
        assert!(said.is_news_at(path, "a directory", NOW));
    }

    #[test]
    fn a_flood_of_paths_is_told_once_and_up_to_the_bound() {
        let mut said = Said::default();
        let news = |said: &mut Said, now| {
            let paths = (0..3 * PATHS_MAX).map(|n| PathBuf::from(format!("/{n}")));
            paths
                .filter(|path| said.is_news_at(path, "bad", now))
                .count()
        };
        let minutes = |n: u64| NOW.plus(Duration::from_secs(60 * n));
        let told: Vec<_> = (0..180).map(|n| news(&mut said, minutes(n))).collect();
        assert_eq!((told[0], told.iter().sum()), (PATHS_MAX, PATHS_MAX));
        // What is remembered may change, and what is mended makes room.
        assert!(said.is_news_at(Path::new("/0"), "worse", minutes(180)));
        assert!(said.is_over(Path::new("/1")));
        assert!(said.is_news_at(Path::new("/2000"), "bad", minutes(180)));
        assert!(!said.is_news_at(Path::new("/2001"), "bad", minutes(180)));
        // So does what was not seen for long: files that are gone.
        assert!(said.is_news_at(Path::new("/2001"), "bad", minutes(240)));
        assert!(said.texts.len() <= PATHS_MAX);
    }
}
