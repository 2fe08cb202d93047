-- variant: an attribute set (DICOM JSON) that many instances of a study or series share
CREATE TABLE variant (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    attributes BLOB NOT NULL
);
CREATE TABLE study (
    study_uid TEXT PRIMARY KEY,
    variant INTEGER NOT NULL,
    attributes BLOB NOT NULL,
    patient_id TEXT NOT NULL,
    accession TEXT NOT NULL,
    study_date TEXT NOT NULL,
    study_id TEXT NOT NULL,
    modalities TEXT NOT NULL,
    n_series INTEGER NOT NULL,
    n_instances INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX study_patient ON study (patient_id);
CREATE INDEX study_accession ON study (accession);
CREATE INDEX study_day ON study (study_date, study_uid);
CREATE TABLE study_name (
    name TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    PRIMARY KEY (name, study_uid)
) WITHOUT ROWID;
CREATE INDEX study_name_of ON study_name (study_uid);
CREATE TABLE series (
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    variant INTEGER NOT NULL,
    attributes BLOB NOT NULL,
    modality TEXT NOT NULL,
    n_instances INTEGER NOT NULL,
    PRIMARY KEY (study_uid, series_uid)
) WITHOUT ROWID;
CREATE INDEX series_uid ON series (series_uid);
-- instance: visible = 1 when it is content, not hidden by a rejection note and not in the bin (binned = 0)
CREATE TABLE instance (
    id INTEGER PRIMARY KEY,
    sop_uid TEXT NOT NULL,
    binned INTEGER NOT NULL DEFAULT 0,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    number TEXT NOT NULL,
    frames INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    dataset_offset INTEGER NOT NULL,
    pixel_offset INTEGER NOT NULL,
    pixel_length INTEGER NOT NULL,
    tiff_preamble INTEGER NOT NULL,
    received_unix REAL NOT NULL,
    road TEXT NOT NULL,
    peer TEXT NOT NULL,
    kind TEXT NOT NULL,
    hidden TEXT NOT NULL DEFAULT '',
    visible INTEGER NOT NULL,
    study_variant INTEGER NOT NULL,
    series_variant INTEGER NOT NULL,
    UNIQUE (sop_uid, binned)
);
CREATE INDEX instance_place ON instance (study_uid, series_uid);
CREATE INDEX instance_unseen ON instance (binned, kind, hidden) WHERE visible = 0;
CREATE INDEX instance_content ON instance (sha256);
CREATE TABLE metadata (
    id INTEGER PRIMARY KEY,
    zstd BLOB NOT NULL
);
CREATE TABLE mark (
    study_uid TEXT PRIMARY KEY,
    change INTEGER NOT NULL,
    serial INTEGER NOT NULL,
    first_change_unix REAL NOT NULL,
    last_change_unix REAL NOT NULL
);
CREATE INDEX mark_serial ON mark (serial);
-- rejection: what rejection notes hide; here = 1 when the instance had been received before its note
CREATE TABLE rejection (
    sop_uid TEXT PRIMARY KEY,
    study_uid TEXT NOT NULL,
    code TEXT NOT NULL,
    note_uid TEXT NOT NULL,
    here INTEGER NOT NULL,
    received_unix REAL NOT NULL
);
CREATE TABLE bin (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study_uid TEXT NOT NULL,
    reason TEXT NOT NULL,
    deleted_unix REAL NOT NULL
);
CREATE INDEX bin_study ON bin (study_uid);
CREATE TABLE quarantine (
    id TEXT PRIMARY KEY,
    received_unix REAL NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    road TEXT NOT NULL,
    peer TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    size_bytes INTEGER NOT NULL
);
CREATE INDEX quarantine_age ON quarantine (received_unix);
CREATE TABLE imported (
    path BLOB PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL
);
