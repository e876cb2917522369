SELECT n_rows, stored_bytes, (SELECT committed_ms FROM batch ORDER BY id LIMIT 1) FROM depth
