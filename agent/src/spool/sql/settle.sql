UPDATE generation SET settled = ?2, delivered = ?3, closed = ?4, cuts = ?5, checksum = ?6
WHERE id = ?1
