//! Another configuration: some sources are let go of, and others taken up, while the rest goes on.
//!
//! A source is known by its index in most places, and they move up where one before it goes.

use std::collections::HashMap;
use std::fs::File;

use headwater_record::value::ValueWriter;
use headwater_record::{Generation, SourceId, StreamId};

use super::give_way::Farewell;
use super::{Away, Roster};
use crate::checkpoint::{Knowledge, Registry};
use crate::clock::{self, Monotonic};
use crate::config::FileSource;
use crate::discover::told::Told;
use crate::sources::SourceError;
use crate::tail::desk::Source;
use crate::tail::reader::Followed;
use crate::tail::resume::resume;

impl<R: Registry> Roster<R> {
    /// Takes up sources: what the database knows of them, and what their globs lead to now.
    /// `nameless`: files of known generations that nothing leads to any more.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn take_up(
        &mut self,
        plans: Vec<FileSource>,
        known: &Knowledge,
        mut nameless: HashMap<Generation, File>,
        now: Monotonic,
    ) -> Result<(), SourceError> {
        let first = self.sources.len();
        for plan in plans {
            self.next_scans.push(now);
            self.next_looks.push(now);
            self.waiting.push(HashMap::new());
            self.cut.push(Vec::new());
            self.not_entered.push(Vec::new());
            self.sources.push(Source {
                writer: ValueWriter::new(&self.device, &plan.id),
                plan,
            });
        }
        for index in first..self.sources.len() {
            let id = &self.sources[index].plan.id;
            let device = self.device.as_str();
            let is_its =
                |stream: &StreamId| (stream.device(), stream.source()) == (device, id.as_str());
            for closed in known.closed.iter().filter(|closed| is_its(&closed.stream)) {
                self.closed.keep(index, closed.clone(), clock::wall_ms());
            }
            self.resume(index, known, &mut nameless, now)?;
        }
        self.say_unconfigured(&known.open);
        self.store_identities(now, Followed::identity_worth_storing)
    }

    fn resume(
        &mut self,
        index: usize,
        known: &Knowledge,
        nameless: &mut HashMap<Generation, File>,
        now: Monotonic,
    ) -> Result<(), SourceError> {
        let found = self.look(index, now, &Told::default());
        self.say_unmatched(index, &found);
        let mut resumed = resume(
            &self.device,
            &self.sources[index],
            index,
            known,
            (&found, nameless, self.desk.open_max),
            now,
        );
        for (open, _) in &resumed.gone {
            self.closed.remember_gone(index, open, clock::wall_ms());
        }
        for (open, why) in &resumed.gone {
            let farewells = Farewell::all_gone(index, open, why);
            self.farewells.extend(farewells);
        }
        let away = resumed.away.into_iter();
        (self.away).extend(
            away.map(|(open, is_youngest, why)| Away::new(index, open, is_youngest, why, now)),
        );
        self.followed.extend(resumed.followed);
        self.cut_short
            .extend(std::mem::take(&mut resumed.cut_short));
        let left = std::mem::take(&mut resumed.left);
        self.adopt(index, &found, left, now, |closed, stream| {
            !resumed.streams.contains(stream) && !closed.knows(index, stream)
        })
    }

    /// Lets go of sources: writes down by what their files are known, and returns those files to which
    /// nothing leads any more, for whoever goes on with them.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn let_go(&mut self, ids: &[SourceId]) -> Result<Vec<(Generation, File)>, SourceError> {
        self.finish()?;
        let mut nameless = Vec::new();
        for index in (0..self.sources.len()).rev() {
            if ids.contains(&self.sources[index].plan.id) {
                let its = self.followed.iter().filter(|file| file.source == index);
                nameless.extend(its.filter_map(|file| Some((file.generation, file.nameless()?))));
                self.forget(index);
            }
        }
        self.count();
        Ok(nameless)
    }

    fn forget(&mut self, index: usize) {
        self.sources.remove(index);
        self.next_scans.remove(index);
        self.next_looks.remove(index);
        self.waiting.remove(index);
        self.cut.remove(index);
        self.not_entered.remove(index);
        let stays = |source: &mut usize| moves_up(source, index);
        self.followed.retain_mut(|file| stays(&mut file.source));
        self.farewells
            .retain_mut(|farewell| stays(&mut farewell.source));
        self.away.retain_mut(|away| stays(&mut away.source));
        self.closed.forget_source(index);
        self.begin_passes_anew();
    }
}

/// The index of a source as it is once the one at `gone` is forgotten; returns whether it is another.
pub(in crate::tail) fn moves_up(source: &mut usize, gone: usize) -> bool {
    let is_other = *source != gone;
    *source -= usize::from(*source > gone);
    is_other
}
