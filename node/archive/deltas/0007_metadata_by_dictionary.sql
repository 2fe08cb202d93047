-- dictionary: of each series the DICOM JSON of its first instance, by which the others' is compressed
CREATE TABLE dictionary (
    id INTEGER PRIMARY KEY,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    zstd BLOB NOT NULL,
    UNIQUE (study_uid, series_uid)
);
-- dictionary: what zstd is expanded with; 0: by itself
ALTER TABLE metadata ADD COLUMN dictionary INTEGER NOT NULL DEFAULT 0;
