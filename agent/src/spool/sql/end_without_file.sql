DELETE FROM generation WHERE id = ?1 AND closed <> 0 AND path IS NULL
