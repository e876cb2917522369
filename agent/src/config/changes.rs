//! What a new configuration changes while the agent runs: sources come, go and change; everything
//! else needs a restart. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Plan;

/// Sources, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub added: Vec<String>,
    /// Those whose settings are others.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
    /// One of the above is a `[[file]]`.
    pub files: bool,
    /// One of the above is a `[[sensor]]`.
    pub sensors: bool,
}

impl Changes {
    /// What leads from one plan to the other.
    ///
    /// # Errors
    /// The settings, by section or key, that differ and need a restart.
    pub fn between(old: &Plan, new: &Plan) -> Result<Self, Vec<&'static str>> {
        let fixed = needs_restart(old, new);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        let mut changes = Self::default();
        let before = changes.count();
        changes.note(by_id(&old.files, |s| &s.id), by_id(&new.files, |s| &s.id));
        changes.files = changes.count() > before;
        let before = changes.count();
        changes.note(
            by_id(&old.sensors, |s| &s.id),
            by_id(&new.sensors, |s| &s.id),
        );
        changes.sensors = changes.count() > before;
        changes.note(
            by_id(&old.journals, |s| &s.id),
            by_id(&new.journals, |s| &s.id),
        );
        Ok(changes)
    }

    /// Whether a source of this id is other than it was.
    pub fn concerns(&self, id: &str) -> bool {
        let all = [&self.added, &self.changed, &self.removed];
        all.iter().any(|ids| ids.iter().any(|other| other == id))
    }

    /// How many sources.
    pub fn count(&self) -> usize {
        self.added.len() + self.changed.len() + self.removed.len()
    }

    fn note<S: PartialEq>(&mut self, old: BTreeMap<&str, &S>, new: BTreeMap<&str, &S>) {
        for (id, source) in &new {
            match old.get(id) {
                None => self.added.push((*id).to_owned()),
                Some(before) if before != source => self.changed.push((*id).to_owned()),
                Some(_) => {}
            }
        }
        let gone = old.keys().filter(|id| !new.contains_key(*id));
        self.removed.extend(gone.map(|id| (*id).to_owned()));
    }
}

impl Plan {
    /// Counts on where the sources of an earlier plan, or those of the same name, counted to: what is told of
    /// a source is since the start of the agent, whatever was made of its steps meanwhile.
    pub fn counts_on(&mut self, before: &Self) {
        let files = by_id(&before.files, |s| &s.id);
        for source in &mut self.files {
            if let Some(before) = files.get(source.id.as_str()) {
                source.process.counters = Arc::clone(&before.process.counters);
            }
        }
        let journals = by_id(&before.journals, |s| &s.id);
        for source in &mut self.journals {
            if let Some(before) = journals.get(source.id.as_str()) {
                source.process.counters = Arc::clone(&before.process.counters);
            }
        }
    }
}

/// The sources of `these` that are not among `others`, as they are: new ones, or changed ones.
pub fn only_in<'a, S: PartialEq>(these: &'a [S], others: &[S]) -> impl Iterator<Item = &'a S> {
    these.iter().filter(|source| !others.contains(source))
}

fn by_id<S>(sources: &[S], id: impl Fn(&S) -> &headwater_record::SourceId) -> BTreeMap<&str, &S> {
    let pair = |source| (id(source).as_str(), source);
    sources.iter().map(pair).collect()
}

/// Of a plan without its sources: everything that a part was given at its start and keeps.
fn needs_restart(old: &Plan, new: &Plan) -> Vec<&'static str> {
    // Named one by one, so that a new setting is not forgotten here.
    let Plan {
        device,
        state_dir,
        boot_sizes,
        kafka,
        credentials,
        key,
        window_bytes,
        uplink,
        flash_bytes_per_day,
        memory_max,
        spool,
        spool_keys,
        checkpoint,
        shutdown_flush,
        admin_listen,
        files: _,
        journals: _,
        sensors: _,
    } = new;
    let same = [
        ("device", *device == old.device),
        ("state_dir", *state_dir == old.state_dir),
        ("boot_sizes", *boot_sizes == old.boot_sizes),
        ("kafka", *kafka == old.kafka),
        ("credentials", *credentials == old.credentials),
        ("produce", *key == old.key),
        ("window", *window_bytes == old.window_bytes),
        ("uplink", *uplink == old.uplink),
        ("flash", *flash_bytes_per_day == old.flash_bytes_per_day),
        ("memory", *memory_max == old.memory_max),
        (
            "spool",
            *spool == old.spool && *spool_keys == old.spool_keys,
        ),
        ("checkpoint", *checkpoint == old.checkpoint),
        ("shutdown", *shutdown_flush == old.shutdown_flush),
        ("admin", *admin_listen == old.admin_listen),
    ];
    let other = same.into_iter().filter(|(_, same)| !same);
    other.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;
    use crate::process::{ProcessPlan, Tally};

    fn plan(text: &str) -> Plan {
        let text = format!("device = 'd'\n{text}\n[[file]]\nid = 'stays'\npaths = ['/stays']\n");
        let text = text.replace("KAFKA", "[kafka]\nbrokers = ['localhost:1']\ntopic = 't'\n");
        Plan::new(
            headwater_msk::config_file::parse(&text).unwrap(),
            &Host::default(),
        )
        .unwrap()
    }

    #[test]
    fn sources_come_go_and_change() {
        let old = plan(
            "KAFKA[[file]]\nid = 'a'\npaths = ['/a']\n[[journal]]\nid = 'j'\n\
             [[sensor]]\nid = 's'\npaths = ['/s']\n",
        );
        let new = plan(
            "KAFKA[[file]]\nid = 'a'\npaths = ['/a']\nlane = 'high'\n[[journal]]\nid = 'k'\n\
             [[sensor]]\nid = 's'\npaths = ['/s']\n",
        );
        let changes = Changes::between(&old, &new).unwrap();
        let expected = Changes {
            added: vec!["k".into()],
            changed: vec!["a".into()],
            removed: vec!["j".into()],
            files: true,
            sensors: false,
        };
        assert_eq!(changes, expected);
        assert!(changes.concerns("j") && !changes.concerns("stays") && !changes.concerns("s"));
        assert_eq!(Changes::between(&new, &new), Ok(Changes::default()));
        let raw = plan("KAFKA[[file]]\nid = 'a'\npaths = ['/a']\nvalue = 'raw'\n");
        let json = plan("KAFKA[[file]]\nid = 'a'\npaths = ['/a']\n");
        assert_eq!(Changes::between(&json, &raw).unwrap().changed, ["a"]);
    }

    #[test]
    fn a_new_plan_counts_on_for_the_sources_that_it_still_has() {
        let old = plan("KAFKA[[file]]\nid = 'a'\npaths = ['/a']\n[[journal]]\nid = 'j'\n");
        let tally = Tally {
            filtered: 3,
            ..Tally::default()
        };
        old.files
            .iter()
            .for_each(|file| file.process.counters.add(tally));
        old.journals[0].process.counters.add(tally);
        // One is as it was, one is changed, one is new.
        let mut new = plan(
            "KAFKA[[file]]\nid = 'a'\npaths = ['/a']\nrepeats = { within = '1s' }\n\
             [[file]]\nid = 'b'\npaths = ['/b']\n[[journal]]\nid = 'j'\n",
        );
        new.counts_on(&old);
        let counted = |process: &ProcessPlan| process.counters.tally().filtered;
        let files = new
            .files
            .iter()
            .map(|file| (file.id.as_str(), counted(&file.process)));
        assert_eq!(
            files.collect::<Vec<_>>(),
            [("a", 3), ("b", 0), ("stays", 3)]
        );
        assert_eq!(counted(&new.journals[0].process), 3);
        // Whoever still reads by the old one counts there, too.
        old.files[0].process.counters.add(tally);
        assert_eq!(counted(&new.files[0].process), 6);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = plan("KAFKA");
        let new = plan(
            "state_dir = '/s'\nKAFKA[produce]\nkey = 'stream'\n[spool]\nafter = '1s'\n[uplink]\nbytes_per_day = '1MB'\n\
             [[file]]\nid = 'b'\npaths = ['/b']\n",
        );
        assert_eq!(
            Changes::between(&old, &new),
            Err(vec!["state_dir", "produce", "uplink", "spool", "admin"]),
            "the socket lies in the state directory"
        );
    }
}
