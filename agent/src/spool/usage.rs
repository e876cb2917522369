//! What was used of the budgets, in the database. A row that is not as it was written counts as
//! none: the budget begins anew, and nothing else depends on it.

use rusqlite::{Connection, params};

use super::Used;
use super::pages::Value;

/// The table, where it is missing.
pub(super) const SCHEMA: &str = include_str!("sql/usage.sql");

fn checksum(used: Used) -> u32 {
    let mut sum = crc32c::crc32c(&[used.budget]);
    for number in [used.at_ms, used.bytes.cast_unsigned()] {
        sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
    }
    sum
}

/// Writes them down.
pub(super) fn write(open: &Connection, usage: &[Used]) -> rusqlite::Result<()> {
    for used in usage {
        open.prepare_cached("INSERT OR REPLACE INTO usage VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                used.budget,
                used.at_ms.cast_signed(),
                used.bytes,
                checksum(*used)
            ])?;
    }
    Ok(())
}

/// All that are whole.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Used>> {
    let mut statement = connection.prepare("SELECT budget, at_ms, bytes, checksum FROM usage")?;
    let rows = statement.query_map([], |row| {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?])
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(rows.into_iter().filter_map(whole).collect())
}

fn whole([budget, at_ms, bytes, sum]: [i64; 4]) -> Option<Used> {
    let used = Used {
        budget: u8::try_from(budget).ok()?,
        at_ms: at_ms.cast_unsigned(),
        bytes,
    };
    (i64::from(checksum(used)) == sum).then_some(used)
}

/// One, from a row of a page.
pub(super) fn of_page(id: i64, values: &[Value<'_>]) -> Option<Used> {
    let [
        _,
        Value::Integer(at_ms),
        Value::Integer(bytes),
        Value::Integer(sum),
    ] = values
    else {
        return None;
    };
    whole([id, *at_ms, *bytes, *sum])
}
