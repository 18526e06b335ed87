-- `sealed` is the encrypted value in hexadecimal digits; `key_id` says which key of `vault.key` opens it.
CREATE TABLE secret (
    id         TEXT    NOT NULL PRIMARY KEY,
    team_id    TEXT    NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    metadata   TEXT    NOT NULL,
    hosts      TEXT    NOT NULL,
    key_id     TEXT    NOT NULL,
    sealed     TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    UNIQUE (team_id, name)
);
