INSERT INTO generation
    (id, identity, stream, settled, delivered, closed, checksum, skip_to, cuts, path, device, inode,
     fingerprint_len, fingerprint, since_ms, marker_end, marker_len, marker_sum, earlier,
     goes_on)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
        ?17, ?18, ?19, ?20)
ON CONFLICT (id) DO NOTHING
