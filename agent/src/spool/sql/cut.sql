UPDATE generation SET cut = ?2 WHERE id = ?1
