-- unmeasured: whether a large sequence says no length, so that other readers would read all of it to pass over it
ALTER TABLE large_metadata ADD COLUMN unmeasured INTEGER NOT NULL DEFAULT 0;
