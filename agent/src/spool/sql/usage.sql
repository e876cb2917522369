-- What was used of the budgets (uplink, flash), so that a restart does not begin with new ones. Made
-- where it is missing: a database of an agent without budgets has none.
CREATE TABLE IF NOT EXISTS usage (
    budget          INTEGER PRIMARY KEY,
    at_ms           INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,
    -- CRC-32C, as usage.rs says.
    checksum        INTEGER NOT NULL
) STRICT;
