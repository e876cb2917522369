UPDATE generation SET path = NULL, device = NULL, inode = NULL, fingerprint_len = NULL, fingerprint = NULL,
    since_ms = NULL, marker_end = NULL, marker_len = NULL, marker_sum = NULL
-- ?2: only where its file goes on under another.
WHERE id = ?1 AND (NOT ?2 OR goes_on IS NOT NULL)
