-- Which key of `vault.key` opens `network`, which is sealed then as a secret is; NULL where it is JSON.
ALTER TABLE sandbox ADD COLUMN network_key TEXT;
