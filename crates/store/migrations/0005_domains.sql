-- Names of their own that lead to sandboxes: each to one. They go with the sandbox.
CREATE TABLE domain (
    name       TEXT    NOT NULL PRIMARY KEY,
    sandbox_id TEXT    NOT NULL REFERENCES sandbox (id) ON DELETE CASCADE,
    port       INTEGER NOT NULL
);
CREATE INDEX domain_sandbox ON domain (sandbox_id);

-- Which team has a name, or had it last: DNS still leads here when its sandbox is gone.
CREATE TABLE domain_owner (
    name    TEXT    NOT NULL PRIMARY KEY,
    team_id TEXT    NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    -- Seconds since 1970; none while a sandbox has it.
    left_at INTEGER
);
CREATE TRIGGER domain_left AFTER DELETE ON domain BEGIN
    UPDATE domain_owner SET left_at = unixepoch() WHERE name = OLD.name;
END;
