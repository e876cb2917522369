//! Part of a secret, as it is read out of JSON: wiped from memory where it is not taken.

use serde::Deserialize;
use zeroize::Zeroizing;

/// A text that is wiped when dropped. It has no `Debug`.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(super) struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Secret {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same bytes in memory, for whoever wipes them: `Credentials` does.
    pub(super) fn take(mut self) -> String {
        std::mem::take(&mut *self.0)
    }
}
