-- What sandboxes used of their limits of bytes. They go with the sandbox.
CREATE TABLE bytes_used (
    sandbox_id  TEXT   NOT NULL REFERENCES sandbox (id) ON DELETE CASCADE,
    destination TEXT   NOT NULL,
    sent        BIGINT NOT NULL,
    received    BIGINT NOT NULL,
    PRIMARY KEY (sandbox_id, destination)
);

-- So far they stood in the rules. What cannot be read there is left to who reads the rules.
INSERT OR IGNORE INTO bytes_used (sandbox_id, destination, sent, received)
SELECT sandbox.id,
       json_extract(entry.value, '$.destination'),
       CAST(json_extract(entry.value, '$.used[0]') AS INTEGER),
       CAST(json_extract(entry.value, '$.used[1]') AS INTEGER)
FROM sandbox,
     json_each(CASE WHEN json_valid(sandbox.network) THEN sandbox.network END, '$.egress.bytes') AS entry
WHERE entry.type = 'object';
