-- With which keys rows of batch may be sealed, by the ids of sealing.rs. A key is forgotten at a start
-- that finds no rows.
CREATE TABLE IF NOT EXISTS sealing (
    key             INTEGER PRIMARY KEY
) STRICT;
