UPDATE depth
SET n_rows = n_rows + ?2, stored_bytes = stored_bytes + ?3, data_bytes = data_bytes + ?4
WHERE lane = ?1
