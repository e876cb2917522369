UPDATE generation SET path = NULL, device = NULL, inode = NULL, fingerprint_len = NULL, fingerprint = NULL,
    since_ms = NULL, marker_end = NULL, marker_len = NULL, marker_sum = NULL, goes_on = NULL
WHERE id = ?1
