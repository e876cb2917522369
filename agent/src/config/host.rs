//! What a plan takes from the machine, read once and handed in, so that the plan itself is pure.

use std::path::Path;

/// The file that names an installation of Linux: 32 hex digits (`man 5 machine-id`).
const MACHINE_ID: &str = "/etc/machine-id";

/// The machine, as far as a plan depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Content of `/etc/machine-id` without blanks; none where it cannot be read or is empty.
    pub machine_id: Option<String>,
}

impl Host {
    /// This machine.
    pub fn read() -> Self {
        Self {
            machine_id: machine_id(Path::new(MACHINE_ID)),
        }
    }
}

fn machine_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    // systemd writes this word while the first boot has not drawn an id: every device has it then.
    (!id.is_empty() && id != "uninitialized").then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_an_identity_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        assert_eq!(machine_id(&path), None);
        for (content, id) in [
            ("3e1f\n", Some("3e1f")),
            ("\n", None),
            ("uninitialized\n", None),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(machine_id(&path).as_deref(), id, "{content:?}");
        }
    }
}
