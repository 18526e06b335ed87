-- Times are microseconds since 1970 in UTC; ids and JSON are text: SQLite and Postgres agree on both.

CREATE TABLE team (
    id         TEXT   NOT NULL PRIMARY KEY,
    slug       TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_key (
    id           TEXT    NOT NULL PRIMARY KEY,
    team_id      TEXT    NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    hash         TEXT    NOT NULL UNIQUE,
    prefix       TEXT    NOT NULL,
    value_length INTEGER NOT NULL,
    value_prefix TEXT    NOT NULL,
    value_suffix TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    created_by   TEXT,
    last_used_at BIGINT
);
CREATE INDEX api_key_team ON api_key (team_id);

CREATE TABLE sandbox (
    id             TEXT    NOT NULL PRIMARY KEY,
    team_id        TEXT    NOT NULL REFERENCES team (id),
    template_id    TEXT    NOT NULL,
    template_name  TEXT    NOT NULL,
    alias          TEXT,
    state          TEXT    NOT NULL,
    metadata       TEXT    NOT NULL,
    resources      TEXT    NOT NULL,
    started_at     BIGINT  NOT NULL,
    end_at         BIGINT  NOT NULL,
    secure         BOOLEAN NOT NULL,
    auto_pause     BOOLEAN NOT NULL,
    allow_internet BOOLEAN,
    envd_version   TEXT    NOT NULL,
    record         TEXT
);

-- Outlives its sandbox for a while, so that a late repeat is not taken for a new request.
CREATE TABLE idempotency (
    team_id      TEXT   NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    request_key  TEXT   NOT NULL,
    request_hash TEXT   NOT NULL,
    sandbox_id   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (team_id, request_key)
);
CREATE INDEX idempotency_sandbox ON idempotency (sandbox_id);
