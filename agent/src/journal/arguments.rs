//! How journalctl is called. Pure.

use super::entry::{Cursor, output_fields};
use crate::config::JournalSource;
use crate::config::file::StartAt;

/// What the journal is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question<'a> {
    /// This entry, or the next that is there.
    At(&'a Cursor),
    /// The last one.
    Last,
    /// The last one of a boot.
    LastOfBoot(u128),
}

impl JournalSource {
    /// To follow: from an entry on, or from where a first start begins.
    pub(super) fn arguments(&self, after: Option<&Cursor>) -> Vec<String> {
        let mut arguments = self.common(&output_fields(&self.fields));
        arguments.push("--follow".into());
        arguments.extend(self.units.iter().map(|unit| format!("--unit={unit}")));
        arguments.extend(
            self.priority
                .iter()
                .map(|priority| format!("--priority={priority}")),
        );
        match (after, &self.since, self.start_at) {
            (Some(cursor), _, _) => {
                arguments.push("--no-tail".into());
                // Not --after-cursor: systemd 252 skips an entry for it whether or not that is the
                // cursor's own, so that one is lost where a filter leaves the cursor's out. What was
                // taken comes again, and is passed over by its number.
                arguments.push(format!("--cursor={}", cursor.argument()));
            }
            (None, Some(since), _) => {
                arguments.push("--no-tail".into());
                arguments.push(format!("--since={since}"));
            }
            (None, None, StartAt::Beginning) => arguments.push("--no-tail".into()),
            (None, None, StartAt::End) => arguments.push("--lines=0".into()),
        }
        arguments
    }

    /// To find an entry, whatever it is of. Only its cursor is asked for, which comes with any field: a message
    /// may be of any length, an answer may not.
    pub(super) fn arguments_for(&self, question: &Question<'_>) -> Vec<String> {
        let mut arguments = self.common("_BOOT_ID");
        arguments.push("--lines=1".into());
        match question {
            Question::At(cursor) => arguments.push(format!("--cursor={}", cursor.argument())),
            Question::Last => {}
            Question::LastOfBoot(boot) => arguments.push(format!("_BOOT_ID={boot:032x}")),
        }
        arguments
    }

    fn common(&self, output_fields: &str) -> Vec<String> {
        let mut arguments = vec![
            "--output=json".to_owned(),
            format!("--output-fields={output_fields}"),
            "--all".into(),
            "--no-pager".into(),
            "--quiet".into(),
        ];
        if let Some(directory) = &self.directory {
            arguments.push(format!("--directory={}", directory.display()));
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessPlan;
    use crate::spool::Lane;

    fn source(since: Option<&str>, start_at: StartAt) -> JournalSource {
        JournalSource {
            id: "journal".parse().unwrap(),
            units: vec!["a.service".into(), "b.service".into()],
            lane: Lane::default(),
            priority: Some("err..alert".into()),
            since: since.map(str::to_owned),
            start_at,
            directory: None,
            fields: Vec::new(),
            process: ProcessPlan::default(),
        }
    }

    #[test]
    fn a_first_start_begins_where_it_is_told_and_each_later_one_at_the_cursor() {
        let cursor = Cursor {
            id: "739ad463348b4ceca5a9e69c95a3c93f".into(),
            number: 31,
            time_us: 16,
            boot: 7,
        };
        let at_cursor = "--cursor=s=739ad463348b4ceca5a9e69c95a3c93f;i=1f;t=10";
        for (since, start_at, after, begins) in [
            (None, StartAt::Beginning, None, &["--no-tail"][..]),
            (None, StartAt::End, None, &["--lines=0"]),
            (
                Some("-1h"),
                StartAt::End,
                None,
                &["--no-tail", "--since=-1h"],
            ),
            (
                Some("-1h"),
                StartAt::End,
                Some(&cursor),
                &["--no-tail", at_cursor],
            ),
        ] {
            let arguments = source(since, start_at).arguments(after);
            let at = arguments.iter().position(|one| one == "--follow").unwrap();
            let filters = [
                "--unit=a.service",
                "--unit=b.service",
                "--priority=err..alert",
            ];
            assert_eq!(arguments[at + 1..], [&filters[..], begins].concat());
        }
    }
}
