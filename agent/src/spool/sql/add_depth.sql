UPDATE depth SET n_rows = n_rows + ?1, stored_bytes = stored_bytes + ?2
