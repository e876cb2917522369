UPDATE generation SET settled = max(settled, ?2) WHERE id = ?1
