UPDATE generation SET path = ?2, device = ?3, inode = ?4, fingerprint_len = ?5, fingerprint = ?6
WHERE id = ?1
