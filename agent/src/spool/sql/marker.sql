SELECT marker_end, marker_len, marker_sum, earlier FROM generation WHERE id = ?1
