-- Unsigned 64-bit numbers are stored as the signed number of the same bits. A salvage tells the
-- tables apart by their number of columns: keep those different.

-- One generation that is open, or closed while the spool holds batches, or whose file is kept in mind: registered
-- before its first record is sent.
CREATE TABLE generation (
    id              INTEGER PRIMARY KEY,
    -- Of the database, as in depth: a row of another database's log shows.
    identity        INTEGER NOT NULL,
    stream          TEXT    NOT NULL,
    settled         INTEGER NOT NULL,
    -- What was settled when the spool was empty last: all below has been acknowledged.
    delivered       INTEGER NOT NULL,
    -- Bits: 1 it is closed, 2 its file was read to its end, 4 all of it has been acknowledged.
    closed          INTEGER NOT NULL,
    -- CRC-32C, as generations.rs says.
    checksum        INTEGER NOT NULL,
    skip_to         INTEGER,
    -- Record boundaries above settled, eight bytes each, little-endian; NULL where there are none.
    cuts            BLOB,
    -- The file's identity; all NULL for a sensor.
    path            BLOB,
    device          INTEGER,
    inode           INTEGER,
    fingerprint_len INTEGER,
    fingerprint     INTEGER,
    since_ms        INTEGER,
    -- What lay before the last offset that was read as of the last checkpoint.
    marker_end      INTEGER,
    marker_len      INTEGER,
    marker_sum      INTEGER,
    -- Markers, 16 bytes each: of earlier checkpoints of a file, rising; of a journal one, the boot of the
    -- marker's entry. Rows of earlier agents end before it.
    earlier         BLOB,
    -- Where its file goes on under another generation: the offset, that one's id, and the CRC-32C of this id and
    -- those, little-endian. NULL where it does not; rows of earlier agents end before it.
    goes_on         BLOB
) STRICT;

-- One batch, from its commit to its delivery report. Oldest first is the order of the ids.
-- The blob's form stands in batch.rs; the checksum covers what batch.rs says.
CREATE TABLE batch (
    id              INTEGER PRIMARY KEY,
    generation      INTEGER NOT NULL,
    stream          TEXT    NOT NULL,
    start           INTEGER NOT NULL,
    "end"           INTEGER NOT NULL,
    -- Bits: 1 it holds data, 2 a loss notice, 4 it closes its generation.
    kinds           INTEGER NOT NULL,
    records         INTEGER NOT NULL,
    -- 1: the blob is encrypted.
    sealed          INTEGER NOT NULL,
    -- What it counts against spool.max_bytes, and unpacked, before it is read.
    stored_bytes    INTEGER NOT NULL,
    plain_bytes     INTEGER NOT NULL,
    committed_ms    INTEGER NOT NULL,
    checksum        INTEGER NOT NULL,
    blob            BLOB    NOT NULL
) STRICT;

-- The sums over batch, kept with each commit: counting a backlog of gigabytes takes minutes on a
-- card, and a start has a second.
CREATE TABLE depth (
    lane            INTEGER PRIMARY KEY,
    identity        INTEGER NOT NULL,
    n_rows          INTEGER NOT NULL,
    stored_bytes    INTEGER NOT NULL,
    -- Of the rows that hold data.
    data_bytes      INTEGER NOT NULL
) STRICT;
