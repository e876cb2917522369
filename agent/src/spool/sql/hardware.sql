-- On which hardware the database was last opened, by the marks of hardware/mod.rs. Made where it is missing: a
-- database of an earlier agent has none, and takes those of where it is.
CREATE TABLE IF NOT EXISTS hardware (
    mark            INTEGER PRIMARY KEY,
    kind            INTEGER NOT NULL,
    -- CRC-32C, as spool/hardware.rs says.
    checksum        INTEGER NOT NULL
) STRICT;
