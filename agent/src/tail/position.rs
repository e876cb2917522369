//! Where the reading of one file stands, and what to do next. Pure.
//!
//! ```text
//!   0 ── given away ──┬── skipped ──┬── read, no whole line in it ──┬── not read yet ──┬ size
//!                   given       read_from                        examined
//! ```
//!
//! A file that a glob leads to is followed for as long as it is there. One that was renamed away or
//! deleted is *unlinked*: it is drained, and closed once it is silent.

/// Offsets of one file. `given <= read_from`, and `read_from` is ahead only while bytes are skipped
/// by configuration: the next record's span covers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    given: u64,
    read_from: u64,
    /// Where the bytes ended when they last held no whole line.
    examined: u64,
    /// Rising, and above `read_from`.
    cuts: Vec<u64>,
}

/// What is seen of the file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its length, bytes.
    pub size: u64,
    /// Whether a path of its source leads to it.
    pub linked: bool,
    /// Whether nothing happened to it for as long as `close_after` says.
    pub quiet: bool,
    /// Where a record is to end that waited for its end long enough.
    pub expired: Option<u64>,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Wait,
    /// Read from [`Position::read_from`].
    Read,
    /// Make this offset a record boundary: a last line without its end mark will not get one, or
    /// an event no further line.
    Cut(u64),
    /// Close it: everything was given away.
    Close,
    /// Close it: what was not read is gone.
    Truncated,
}

impl Position {
    /// Where reading begins, or goes on after a restart.
    pub fn resume(settled: u64, skip_to: Option<u64>, cuts: &[u64]) -> Self {
        let read_from = skip_to.map_or(settled, |to| to.max(settled));
        Self {
            given: settled,
            read_from,
            examined: read_from,
            cuts: (cuts.iter().copied())
                .filter(|cut| *cut > read_from)
                .collect(),
        }
    }

    /// Where the next record's span starts.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Where the next bytes are read.
    pub fn read_from(&self) -> u64 {
        self.read_from
    }

    /// The boundaries that the bytes alone would not give, rising.
    pub fn cuts(&self) -> &[u64] {
        &self.cuts
    }

    /// Takes note that records up to `given` were given away, and lines up to `read` were taken: what
    /// lies between was dropped or is held back, and the next record's span covers it.
    pub fn took(&mut self, given: u64, read: u64) {
        debug_assert!(read >= self.read_from, "lines come in order");
        debug_assert!(
            (self.given..=read).contains(&given),
            "records come in order"
        );
        (self.given, self.read_from, self.examined) = (given, read, read);
        self.cuts.retain(|cut| *cut > read);
    }

    /// Whether bytes were seen behind the last record, or behind `event`, that are no whole line.
    pub fn examined_beyond(&self, event: Option<u64>) -> bool {
        self.examined > event.unwrap_or(self.read_from)
    }

    /// Takes note that what was held back went as records up to `given`.
    pub fn told(&mut self, given: u64) {
        debug_assert!(
            (self.given..=self.read_from).contains(&given),
            "records come in order"
        );
        self.given = given;
    }

    /// Takes note that the bytes end at `end`, and hold no further whole line.
    pub fn examined(&mut self, end: u64) {
        self.examined = end.max(self.read_from);
    }

    /// Takes note of a committed boundary.
    pub fn cut_at(&mut self, offset: u64) {
        self.cuts.push(offset);
        self.cuts.sort_unstable();
        self.examined = self.read_from;
    }

    /// What to do.
    pub fn step(&self, facts: Facts) -> Step {
        if facts.size < self.read_from {
            return Step::Truncated;
        }
        // Not `>`: a shorter end than before means that the partial line was written anew.
        if facts.size != self.examined && facts.size > self.read_from {
            return Step::Read;
        }
        let expired = facts.expired.filter(|at| *at > self.read_from);
        match facts {
            Facts { linked: true, .. } | Facts { quiet: false, .. } => {
                expired.map_or(Step::Wait, Step::Cut)
            }
            Facts { size, .. } if size == self.read_from => Step::Close,
            Facts { size, .. } => Step::Cut(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(size: u64, linked: bool, quiet: bool) -> Facts {
        Facts {
            size,
            linked,
            quiet,
            expired: None,
        }
    }

    #[test]
    fn a_linked_file_is_read_as_it_grows() {
        let mut position = Position::resume(10, None, &[]);
        assert_eq!(position.step(facts(10, true, true)), Step::Wait);
        assert_eq!(position.step(facts(13, true, false)), Step::Read);
        position.examined(13);
        assert_eq!(position.step(facts(13, true, true)), Step::Wait);
        assert_eq!(position.step(facts(12, true, true)), Step::Read);
        assert_eq!(position.step(facts(14, true, true)), Step::Read);
        position.took(14, 14);
        assert_eq!(position.step(facts(14, true, true)), Step::Wait);
        assert_eq!(position.step(facts(13, true, true)), Step::Truncated);
    }

    #[test]
    fn an_unlinked_file_is_drained_cut_and_closed() {
        let mut position = Position::resume(10, None, &[]);
        assert_eq!(position.step(facts(15, false, true)), Step::Read);
        position.took(12, 12);
        position.examined(15);
        assert_eq!(position.step(facts(15, false, false)), Step::Wait);
        assert_eq!(position.step(facts(15, false, true)), Step::Cut(15));
        position.cut_at(15);
        assert_eq!(position.step(facts(15, false, true)), Step::Read);
        position.took(15, 15);
        assert_eq!(position.step(facts(17, false, true)), Step::Read);
        assert_eq!(position.step(facts(15, false, false)), Step::Wait);
        assert_eq!(position.step(facts(15, false, true)), Step::Close);
    }

    #[test]
    fn dropped_lines_are_behind_and_still_to_be_covered() {
        let mut position = Position::resume(10, None, &[]);
        position.took(12, 20);
        assert_eq!((position.given(), position.read_from()), (12, 20));
        assert_eq!(position.step(facts(20, true, true)), Step::Wait);
        assert_eq!(position.step(facts(19, true, true)), Step::Truncated);
        assert_eq!(position.step(facts(20, false, true)), Step::Close);
        position.told(15);
        assert_eq!((position.given(), position.read_from()), (15, 20));
    }

    #[test]
    fn what_waited_long_enough_is_cut() {
        let mut position = Position::resume(10, None, &[]);
        position.examined(15);
        let expired = |at, linked| Facts {
            expired: Some(at),
            ..facts(15, linked, false)
        };
        assert_eq!(position.step(expired(13, true)), Step::Cut(13));
        assert_eq!(position.step(expired(10, true)), Step::Wait);
        assert_eq!(position.step(expired(13, false)), Step::Cut(13));
        position.cut_at(13);
        position.cut_at(12);
        assert_eq!(position.cuts(), [12, 13]);
        assert_eq!(position.step(expired(13, true)), Step::Read);
        position.took(12, 12);
        assert_eq!(position.cuts(), [13]);
        assert_eq!(Position::resume(12, None, &[12, 13]).cuts(), [13]);
    }

    #[test]
    fn skipped_bytes_are_not_read_and_not_given() {
        let position = Position::resume(0, Some(100), &[]);
        assert_eq!((position.given(), position.read_from()), (0, 100));
        assert_eq!(position.step(facts(100, true, true)), Step::Wait);
        assert_eq!(position.step(facts(99, true, true)), Step::Truncated);
        // Once more than that is settled, there is nothing to skip.
        let position = Position::resume(120, Some(100), &[]);
        assert_eq!((position.given(), position.read_from()), (120, 120));
    }
}
