INSERT INTO generation
    (id, stream, settled, skip_to, cut, path, device, inode, fingerprint_len, fingerprint)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (id) DO NOTHING
