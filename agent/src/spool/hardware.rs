//! Marks of the hardware, in the database. A row that is not as it was written counts as none: a kind that is
//! missing is not compared.

use rusqlite::{Connection, params};

use super::pages::Value;
use crate::hardware::{Kind, Mark, Marks};

/// The table, where it is missing.
pub(super) const SCHEMA: &str = include_str!("sql/hardware.sql");

fn checksum(mark: Mark) -> u32 {
    let sum = crc32c::crc32c(&[mark.kind as u8]);
    crc32c::crc32c_append(sum, &mark.sum.to_le_bytes())
}

/// Writes one down, beside the others.
pub(super) fn add(open: &Connection, mark: Mark) -> rusqlite::Result<()> {
    open.prepare_cached("INSERT OR REPLACE INTO hardware VALUES (?1, ?2, ?3)")?
        .execute(params![
            mark.sum.cast_signed(),
            mark.kind as u8,
            checksum(mark)
        ])
        .map(drop)
}

/// Writes down these and no others.
pub(super) fn replace(open: &Connection, marks: &Marks) -> rusqlite::Result<()> {
    open.execute("DELETE FROM hardware", [])?;
    marks.iter().try_for_each(|mark| add(open, mark))
}

/// All that are whole, of kinds that this version knows.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Marks> {
    let mut statement = connection.prepare("SELECT mark, kind, checksum FROM hardware")?;
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(rows.into_iter().filter_map(whole).collect())
}

fn whole([mark, kind, sum]: [i64; 3]) -> Option<Mark> {
    let mark = Mark {
        kind: Kind::of(u8::try_from(kind).ok()?)?,
        sum: mark.cast_unsigned(),
    };
    (i64::from(checksum(mark)) == sum).then_some(mark)
}

/// One, from a row of a page.
pub(super) fn of_page(id: i64, values: &[Value<'_>]) -> Option<Mark> {
    let [_, Value::Integer(kind), Value::Integer(sum)] = values else {
        return None;
    };
    whole([id, *kind, *sum])
}
