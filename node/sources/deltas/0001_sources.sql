-- source_study: what a source said of a study when it was looked into last
CREATE TABLE source_study (
    source TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    study_date TEXT NOT NULL,
    digest BLOB NOT NULL,
    n_instances INTEGER NOT NULL,
    looked_unix REAL NOT NULL,
    PRIMARY KEY (source, study_uid)
) WITHOUT ROWID;
CREATE INDEX source_study_date ON source_study (source, study_date);
-- source_window: a month (YYYYMM), or 'undated', whose studies were all compared
CREATE TABLE source_window (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    n_studies INTEGER NOT NULL,
    n_repaired INTEGER NOT NULL,
    looked_unix REAL NOT NULL,
    PRIMARY KEY (source, name)
) WITHOUT ROWID;
-- source_state: whether it answers; trouble is '' while it does
CREATE TABLE source_state (
    source TEXT PRIMARY KEY,
    trouble TEXT NOT NULL,
    since_unix REAL NOT NULL
) WITHOUT ROWID;
