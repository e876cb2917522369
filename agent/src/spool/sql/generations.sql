SELECT id, stream, settled, skip_to, cut, path, device, inode, fingerprint_len, fingerprint
FROM generation
