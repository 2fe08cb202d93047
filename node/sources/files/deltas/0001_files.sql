-- source_file: every file of a folder or an object store, and what it was when it was read last
-- state: 0 waits to be read, 1 its instance is described, 2 the same bytes as the one that is, 3 other bytes than that one,
--   4 no DICOM, 5 DICOM that cannot be taken, 6 its instance is here or described by another source, 7 could not be read now
-- sop_uid of a file in state 0, 1 or 7 is what is described by it; dataset_offset and digest are of the version
CREATE TABLE source_file (
    source TEXT NOT NULL,
    file_key BLOB NOT NULL,
    version TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    modified_unix REAL NOT NULL,
    state INTEGER NOT NULL,
    sop_uid TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    dataset_offset INTEGER NOT NULL,
    digest BLOB NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (source, file_key)
) WITHOUT ROWID;
CREATE INDEX source_file_sop ON source_file (source, sop_uid) WHERE sop_uid <> '';
CREATE INDEX source_file_waiting ON source_file (source, modified_unix) WHERE state = 0;
-- source_files: how many there are in each state, counted as they change
CREATE TABLE source_files (
    source TEXT NOT NULL,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (source, state)
) WITHOUT ROWID;
CREATE TRIGGER source_file_new AFTER INSERT ON source_file BEGIN INSERT INTO source_files VALUES (NEW.source, NEW.state, 1) ON CONFLICT (source, state) DO UPDATE SET n = n + 1; END;
CREATE TRIGGER source_file_gone AFTER DELETE ON source_file BEGIN UPDATE source_files SET n = n - 1 WHERE source = OLD.source AND state = OLD.state; END;
CREATE TRIGGER source_file_moved AFTER UPDATE OF state ON source_file WHEN NEW.state <> OLD.state BEGIN UPDATE source_files SET n = n - 1 WHERE source = OLD.source AND state = OLD.state; INSERT INTO source_files VALUES (NEW.source, NEW.state, 1) ON CONFLICT (source, state) DO UPDATE SET n = n + 1; END;
-- source_walk: how far the listing is that goes on now, and what the last whole one found
CREATE TABLE source_walk (
    source TEXT PRIMARY KEY,
    after_key BLOB NOT NULL,
    listed INTEGER NOT NULL,
    differed INTEGER NOT NULL,
    whole_unix REAL NOT NULL,
    whole_listed INTEGER NOT NULL,
    whole_differed INTEGER NOT NULL,
    unread INTEGER NOT NULL,
    read_per_s REAL NOT NULL,
    again_unix REAL NOT NULL,
    trouble TEXT NOT NULL,
    since_unix REAL NOT NULL
) WITHOUT ROWID;
