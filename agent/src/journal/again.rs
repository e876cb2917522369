//! Numbers that come again. Pure.
//!
//! journald writes its files without waiting for the disk. After a power cut they end where they had reached it, and
//! what is written then takes the numbers that follow: numbers that entries had which were read, and are gone.
//! Under the same generation such a new entry would have the span of the old one, and be a duplicate. So the
//! database keeps when the last entry was received that was read, and in which boot: where the journal has
//! another entry of that number, or ends before it, the generation ends with the last entry of that boot. And what
//! was read after that had been written down last may be gone as well; so the first entry of another boot that
//! comes after a start of the agent begins a generation, once.

use super::entry::Cursor;

/// Which entries are not those that an earlier run of the agent may have read under their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fresh {
    /// Those above this number,
    pub(super) above: u64,
    /// and of these:
    pub(super) which: Which,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those of another boot.
    OtherBoot(u128),
    /// Those that were received later, Unix time in microseconds: an earlier agent kept no boot.
    LaterThan(u64),
}

impl Fresh {
    /// Of a boot that is known; none where it is not.
    pub(super) fn of_other_boots(above: u64, boot: u128) -> Option<Self> {
        (boot > 0).then_some(Self {
            above,
            which: Which::OtherBoot(boot),
        })
    }

    pub(super) fn is_by_boot(&self) -> bool {
        matches!(self.which, Which::OtherBoot(_))
    }

    pub(super) fn holds(&self, entry: &Cursor) -> bool {
        entry.number > self.above
            && match self.which {
                Which::All => true,
                Which::OtherBoot(boot) => entry.boot > 0 && entry.boot != boot,
                Which::LaterThan(time_us) => entry.time_us > time_us,
            }
    }
}

/// What the journal says of the entry that was marked as the last one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    /// It is there, and this is its boot, or 0.
    There(u128),
    /// It is gone, and those before it.
    Gone,
    /// Its number is another entry's, or nobody's yet.
    Again,
}

/// `found`: what the journal gave when it was asked for it, or the next that is there. `last`: its last entry,
/// which is asked for where there is none.
pub(super) fn compare<E>(
    marked: &Cursor,
    found: Option<&Cursor>,
    last: impl FnOnce() -> Result<Option<Cursor>, E>,
) -> Result<Marked, E> {
    let is_behind = |cursor: &Cursor| cursor.id == marked.id && cursor.number < marked.number;
    Ok(match found.filter(|found| found.id == marked.id) {
        Some(found) if found.number > marked.number => Marked::Gone,
        Some(found) if (found.number, found.time_us) == (marked.number, marked.time_us) => {
            Marked::There(found.boot)
        }
        Some(_) => Marked::Again,
        None if last()?.is_some_and(|last| is_behind(&last)) => Marked::Again,
        None => Marked::Gone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(id: &str, number: u64, time_us: u64, boot: u128) -> Cursor {
        Cursor {
            id: id.to_owned(),
            number,
            time_us,
            boot,
        }
    }

    #[test]
    fn a_number_with_another_time_is_another_entrys() {
        let marked = at("a", 10, 100, 1);
        for (found, last, expected) in [
            (Some(at("a", 10, 100, 1)), None, Marked::There(1)),
            (Some(at("a", 10, 101, 2)), None, Marked::Again),
            (Some(at("a", 12, 102, 1)), None, Marked::Gone),
            (None, Some(at("a", 9, 99, 2)), Marked::Again),
            (
                Some(at("b", 1, 300, 2)),
                Some(at("b", 3, 300, 2)),
                Marked::Gone,
            ),
            (None, None, Marked::Gone),
        ] {
            let last = || Ok::<_, ()>(last.clone());
            assert_eq!(
                compare(&marked, found.as_ref(), last),
                Ok(expected),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_was_read_by_nobody_is_told_by_boot_time_or_number() {
        let fresh = |which| Fresh { above: 10, which };
        for (which, entry, expected) in [
            (Which::All, at("a", 11, 0, 0), true),
            (Which::All, at("a", 10, 0, 2), false),
            (Which::OtherBoot(1), at("a", 11, 0, 2), true),
            (Which::OtherBoot(1), at("a", 11, 0, 1), false),
            (Which::OtherBoot(1), at("a", 11, 0, 0), false),
            (Which::OtherBoot(1), at("a", 10, 0, 2), false),
            (Which::LaterThan(5), at("a", 11, 6, 0), true),
            (Which::LaterThan(5), at("a", 11, 5, 0), false),
        ] {
            assert_eq!(
                fresh(which.clone()).holds(&entry),
                expected,
                "{which:?} {entry:?}"
            );
        }
        assert_eq!(Fresh::of_other_boots(1, 0), None);
    }
}
