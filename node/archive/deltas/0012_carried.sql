-- carried: objects that lie in the object store too, or only there (size: of the whole file; here: whether the disk has it, as far as is known)
CREATE TABLE carried (
    sha256 BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    here INTEGER NOT NULL,
    used_unix REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX carried_here ON carried (used_unix, size) WHERE here = 1;
-- carriage: whose objects the bucket holds; rows up to through_id were looked at; sums of carried; home: 1 while all come back to the disk
CREATE TABLE carriage (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    archive_id TEXT NOT NULL,
    through_id INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    here_bytes INTEGER NOT NULL,
    home INTEGER NOT NULL
);
INSERT INTO carriage VALUES (1, '', 0, 0, 0, 0, 0);
CREATE TRIGGER carried_added AFTER INSERT ON carried BEGIN UPDATE carriage SET objects = objects + 1, bytes = bytes + NEW.size, here_bytes = here_bytes + NEW.here * NEW.size; END;
CREATE TRIGGER carried_gone AFTER DELETE ON carried BEGIN UPDATE carriage SET objects = objects - 1, bytes = bytes - OLD.size, here_bytes = here_bytes - OLD.here * OLD.size; END;
CREATE TRIGGER carried_moved AFTER UPDATE OF here ON carried BEGIN UPDATE carriage SET here_bytes = here_bytes + (NEW.here - OLD.here) * NEW.size; END;
