SELECT id, generation, stream, start, "end", kinds, records, sealed, plain_bytes, checksum,
       CASE WHEN kinds & ~16 = 1 THEN NULL ELSE blob END, stored_bytes
FROM batch WHERE id > ?1 AND id < ?2 AND kinds & 1 ORDER BY id LIMIT 64
