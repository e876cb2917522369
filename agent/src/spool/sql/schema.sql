-- One generation that is open: registered before its first record is sent, deleted in the commit
-- that settles its close. Unsigned 64-bit numbers are stored as the signed number of the same bits.
CREATE TABLE generation (
    id              INTEGER PRIMARY KEY,
    stream          TEXT    NOT NULL,
    settled         INTEGER NOT NULL,
    skip_to         INTEGER,
    cut             INTEGER,
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
    marker_sum      INTEGER
) STRICT;

-- One batch, from its commit to its delivery report. Oldest first is the order of the ids.
-- The blob's form stands in batch.rs; the checksum covers what batch.rs says.
CREATE TABLE batch (
    id              INTEGER PRIMARY KEY,
    generation      INTEGER NOT NULL,
    stream          TEXT    NOT NULL,
    start           INTEGER NOT NULL,
    "end"           INTEGER NOT NULL,
    closes          INTEGER NOT NULL,
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
    only            INTEGER PRIMARY KEY CHECK (only = 1),
    n_rows          INTEGER NOT NULL,
    stored_bytes    INTEGER NOT NULL
) STRICT;
INSERT INTO depth VALUES (1, 0, 0);
