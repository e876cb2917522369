SELECT lane, n_rows, stored_bytes, data_bytes,
       (SELECT min(committed_ms) FROM batch WHERE id IN (
            (SELECT min(id) FROM batch WHERE id < 1 << 60),
            (SELECT min(id) FROM batch WHERE id >= 1 << 60 AND id < 2 << 60),
            (SELECT min(id) FROM batch WHERE id >= 2 << 60)))
FROM depth
