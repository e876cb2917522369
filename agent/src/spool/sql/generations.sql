SELECT id, identity, stream, settled, delivered, closed, checksum, skip_to, cuts, path, device, inode,
       fingerprint_len, fingerprint, since_ms, marker_end, marker_len, marker_sum, earlier,
       goes_on
FROM generation
