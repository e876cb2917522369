SELECT id, generation, stream, start, "end", kinds, records, sealed, plain_bytes, checksum, blob
FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id
