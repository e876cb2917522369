-- When a file was changed last goes with its marker (mark.sql); one of which no first byte is known has none,
-- and says here as of when it was known to be so.
UPDATE generation SET path = ?2, device = ?3, inode = ?4, fingerprint_len = ?5, fingerprint = ?6,
    since_ms = CASE WHEN ?5 = 0 THEN ?7 ELSE since_ms END
WHERE id = ?1
