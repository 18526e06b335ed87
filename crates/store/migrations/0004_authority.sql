-- PEM, certificate and key; NULL where no rule ever needed one.
ALTER TABLE sandbox ADD COLUMN authority TEXT;
