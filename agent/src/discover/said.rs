//! Tells a trouble once, and again only when it changed: a scan every ten seconds must not fill a
//! log with one sentence.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Most paths that are remembered; above it all are forgotten, and may be told again.
const PATHS_MAX: usize = 1024;

/// What was last said of each path.
#[derive(Debug, Default)]
pub struct Said {
    texts: HashMap<PathBuf, String>,
}

impl Said {
    /// Whether `text` is not what was last said of `path`; takes note of it.
    pub fn is_news(&mut self, path: &Path, text: &str) -> bool {
        if self.texts.get(path).is_some_and(|said| said == text) {
            return false;
        }
        if self.texts.len() >= PATHS_MAX {
            self.texts.clear();
        }
        self.texts.insert(path.to_owned(), text.to_owned());
        true
    }

    /// Whether there was something to say of `path`, which is over now.
    pub fn is_over(&mut self, path: &Path) -> bool {
        self.texts.remove(path).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_until_it_changes_or_ends() {
        let mut said = Said::default();
        let path = Path::new("/a");
        assert!(said.is_news(path, "no permission"));
        assert!(!said.is_news(path, "no permission"));
        assert!(said.is_news(path, "a directory"));
        assert!(said.is_over(path));
        assert!(!said.is_over(path));
        assert!(said.is_news(path, "a directory"));
        for n in 0..3 * PATHS_MAX {
            said.is_news(&PathBuf::from(format!("/{n}")), "");
            assert!(said.texts.len() <= PATHS_MAX);
        }
    }
}
