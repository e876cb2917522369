SELECT id, identity, stream, settled, delivered, closed, checksum, skip_to, cut
FROM generation WHERE id = ?1
