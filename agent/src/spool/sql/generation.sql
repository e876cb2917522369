SELECT id, identity, stream, settled, delivered, closed, checksum, skip_to, cuts
FROM generation WHERE id = ?1
