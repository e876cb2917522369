-- Of what is over (the bit 4), at most ?1 of a stream and ?2 in all. What is of a time to come, by ?3, goes first.
DELETE FROM generation WHERE id IN (
    SELECT id FROM (
        SELECT id,
               row_number() OVER (PARTITION BY stream ORDER BY since_ms > ?3, since_ms DESC) AS of_stream,
               row_number() OVER (ORDER BY since_ms > ?3, since_ms DESC) AS of_all
        FROM generation WHERE closed & 4)
    WHERE of_stream > ?1 OR of_all > ?2)
