-- Names of their own that lead to sandboxes: each to one. They go with the sandbox.
CREATE TABLE domain (
    name       TEXT    NOT NULL PRIMARY KEY,
    sandbox_id TEXT    NOT NULL REFERENCES sandbox (id) ON DELETE CASCADE,
    port       INTEGER NOT NULL
);
CREATE INDEX domain_sandbox ON domain (sandbox_id);
