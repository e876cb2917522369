DELETE FROM generation WHERE id = ?1
