INSERT OR IGNORE INTO batch
    (id, generation, stream, start, "end", kinds, records, sealed, stored_bytes, plain_bytes,
     committed_ms, checksum, blob)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
