-- JSON; NULL where the request said nothing of it.
ALTER TABLE sandbox ADD COLUMN network TEXT;
