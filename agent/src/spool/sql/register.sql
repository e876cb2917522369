INSERT INTO generation
    (id, stream, settled, skip_to, cut, path, device, inode, fingerprint_len, fingerprint, since_ms,
     marker_end, marker_len, marker_sum)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
ON CONFLICT (id) DO NOTHING
