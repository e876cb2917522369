SELECT id, generation, stream, start, "end", closes, plain_bytes, checksum, blob
FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id
