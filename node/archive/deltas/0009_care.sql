-- fault: objects that are missing, or whose bytes have changed: set apart, and given out to nobody, until they are whole again
CREATE TABLE fault (
    sha256 BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    found_unix REAL NOT NULL
) WITHOUT ROWID;
-- care: how far the reading of every object is (rows up to last_id of through_id), and what the last whole one found
CREATE TABLE care (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    began_unix REAL NOT NULL,
    last_id INTEGER NOT NULL,
    through_id INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    whole_unix REAL NOT NULL,
    whole_objects INTEGER NOT NULL,
    whole_bytes INTEGER NOT NULL,
    whole_faults INTEGER NOT NULL
);
INSERT INTO care VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
