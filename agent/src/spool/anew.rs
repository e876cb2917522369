//! Generations drawn anew, where the state was made on other hardware: another device may go on under those
//! that it names ([`crate::hardware`]).
//!
//! ```text
//!   before   9f3a…   [ settled ............ N ) not read yet
//!   after    c041…   [ skipped ............ N ) read from here
//! ```
//!
//! - What is settled is not read again: the first record's span covers it, as where a source starts at a
//!   file's end. So the spans of the new generation tile it from 0, and no byte is sent twice.
//! - Rows of the spool keep their generation. They are of before the copy, the same in each: what a second
//!   one sends of them is a re-send.
//! - The old generation is not closed: whoever has a right to it may go on under it. Its row stays,
//!   without its file, until the spool is empty, for a salvage to know what it settled.
//! - Files that are closed stay in mind: nothing is sent of them any more.
//! - A sensor's generation that was left open is one run of the agent, and ends with a notice at this start as it
//!   would at any.
//!
//! All of it is one transaction, together with the new marks: cut off before its commit, the next start
//! does it again; afterwards, it finds nothing to do. It is committed before anything is read or sent.

use headwater_record::Generation;
use rusqlite::{Connection, TransactionBehavior};

use super::{generations, hardware, rows};
use crate::checkpoint::{GoesOn, OpenGeneration, Origin};
use crate::crash;
use crate::hardware::{Kind, Marks, Verdict, compare};
use crate::journal::is_journal;

/// The database was made on other hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    /// What differs.
    pub(super) kinds: Vec<Kind>,
    /// Generations that were drawn anew.
    pub(super) generations: usize,
}

/// Compares the hardware with that of the database, and draws anew where it is another. `draw`: a random name.
///
/// # Errors
/// Nothing was changed, and nothing may be read or sent: it is other hardware, and that could not be written
/// down. What cannot be written of the same hardware is no error: the next start does.
pub(super) fn look(
    connection: &mut Connection,
    identity: u64,
    present: &Marks,
    draw: impl FnMut() -> Result<Generation, getrandom::Error>,
) -> rusqlite::Result<Option<Moved>> {
    let stored = hardware::all(connection)?;
    let Verdict::Other(kinds) = compare(&stored, present) else {
        let kept = stored.with(present);
        if kept != stored
            && let Err(error) = note(connection, &kept)
        {
            tracing::debug!(%error, "the marks of the hardware are not in the spool yet; the next start writes them");
        }
        return Ok(None);
    };
    let generations = draw_anew(connection, identity, present, draw)?;
    Ok(Some(Moved { kinds, generations }))
}

fn note(connection: &mut Connection, marks: &Marks) -> rusqlite::Result<()> {
    let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    hardware::replace(&open, marks)?;
    open.commit()
}

fn draw_anew(
    connection: &mut Connection,
    identity: u64,
    present: &Marks,
    mut draw: impl FnMut() -> Result<Generation, getrandom::Error>,
) -> rusqlite::Result<usize> {
    let open = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known = generations::all(&open, identity)?.open;
    let is_empty = rows::depth(&open)?.rows == 0;
    let mut count = 0;
    for first in known.iter().filter(|old| goes_on(old)) {
        // The last first: each names the one under which it goes on.
        let chain: Vec<_> = first.chain().collect();
        let mut under = None;
        for old in chain.into_iter().rev() {
            let random = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
            let new = OpenGeneration {
                goes_on: (old.goes_on.as_ref()).map(|on| GoesOn {
                    at: on.at,
                    under: under.take(),
                }),
                ..old.successor(draw().map_err(random)?, old.read_from())
            };
            generations::register(&open, identity, &new)?;
            generations::leave(&open, old.generation, is_empty)?;
            under = Some(Box::new(new));
            count += 1;
        }
    }
    hardware::replace(&open, present)?;
    crash::point("anew-before-commit");
    open.commit()?;
    crash::point("anew-after-commit");
    Ok(count)
}

/// Whether more may come under it: a sensor's, left open, has had its run.
fn goes_on(open: &OpenGeneration) -> bool {
    open.origin != Origin::Sensor || is_journal(open)
}

#[cfg(test)]
mod tests {
    use headwater_record::StreamId;

    use super::*;

    fn open(path: &str, settled: u64, skip_to: Option<u64>) -> OpenGeneration {
        OpenGeneration {
            generation: Generation(1),
            stream: StreamId::parse(&format!("d/s/{path}")).unwrap(),
            origin: Origin::Sensor,
            settled,
            skip_to,
            cuts: vec![120, 130],
            marker: None,
            earlier: Vec::new(),
            goes_on: None,
        }
    }

    #[test]
    fn a_successor_skips_what_is_settled_and_keeps_all_else() {
        for (settled, skip_to, expect) in [
            (0, None, None),
            (100, None, Some(100)),
            (0, Some(70), Some(70)),
            (100, Some(70), Some(100)),
            (0, Some(0), Some(0)),
        ] {
            let old = open("/log", settled, skip_to);
            let new = old.successor(Generation(2), old.read_from());
            let expected = OpenGeneration {
                generation: Generation(2),
                settled: 0,
                skip_to: expect,
                ..old
            };
            assert_eq!(new, expected, "{settled} {skip_to:?}");
        }
    }

    #[test]
    fn a_journal_goes_on_and_a_sensor_does_not() {
        let journal = "journal/739ad463348b4ceca5a9e69c95a3c93f";
        assert!(goes_on(&open(journal, 5, None)));
        assert!(!goes_on(&open("/sys/temp", 5, None)));
    }
}
