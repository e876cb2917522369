DELETE FROM batch WHERE id = ?1 RETURNING stored_bytes, kinds, generation
