UPDATE generation SET marker_end = ?2, marker_len = ?3, marker_sum = ?4, since_ms = ?5, earlier = ?6
WHERE id = ?1
