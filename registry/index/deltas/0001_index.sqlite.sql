-- THE index (D1, D5, D6, D13). Every table that grows with studies carries the patient record's key first, or its own hash;
-- no foreign key crosses patients, no sequence is on the hot path (scale.md 8). No column is nullable.

CREATE TABLE registry_meta (
    name TEXT PRIMARY KEY,              -- incarnation, region_key (hex)
    value TEXT NOT NULL
);

-- The row: one study as one member holds it for one patient record.
CREATE TABLE holding (
    record_key BIGINT NOT NULL,
    study_hash BIGINT NOT NULL,         -- hash8 of the StudyInstanceUID, which is verified in body
    started BIGINT NOT NULL,            -- low end of the study's UTC interval, Unix seconds; undated: the smallest
    updated BIGINT NOT NULL,            -- Unix milliseconds
    version BIGINT NOT NULL,            -- epoch * 2^24 + n of the newest act on it; -1 for a foreign source's
    revision INTEGER NOT NULL,          -- the registry's revision of this row (D12)
    member_id INTEGER NOT NULL,
    modalities INTEGER NOT NULL,        -- bits, see rows.py
    patient_n SMALLINT NOT NULL,        -- which of the record's texts in patient_text it was submitted with
    flags SMALLINT NOT NULL,            -- 1 deprecated, 2 arriving, 4 digest not of the holder
    body BLOB NOT NULL,                -- codec.py
    extra BLOB NOT NULL,               -- what templates do not say (D6); empty for our own nodes
    PRIMARY KEY (record_key, study_hash, member_id)
);
-- Buckets, so that equal keys share an entry: newest first needs a small sort within one day or one second.
CREATE INDEX holding_started ON holding ((started / 86400));
CREATE INDEX holding_updated ON holding ((updated / 1000));
-- The locator of a study UID, local to the row while there is one machine; sharded by patient it becomes rows of locator.
CREATE INDEX holding_study ON holding (study_hash);

-- A patient as submitted with a study: few per record, shared by its holdings.
CREATE TABLE patient_text (
    record_key BIGINT NOT NULL,
    n SMALLINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (record_key, n)
) WITHOUT ROWID;

-- Superseded versions, newest has the highest seq; body is a delta to the successor's (D6).
CREATE TABLE past_version (
    record_key BIGINT NOT NULL,
    study_hash BIGINT NOT NULL,
    member_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (record_key, study_hash, member_id, seq)
) WITHOUT ROWID;

-- Hash of a name (tag, FHIR id, accession, foreign ids) -> patient records that have it (D13). Written before the
-- row, verified on read; a locator may outlive its row.
CREATE TABLE locator (
    hash BIGINT NOT NULL,
    record_key BIGINT NOT NULL,
    PRIMARY KEY (hash, record_key)
) WITHOUT ROWID;

-- A holding that was withdrawn or moved: hashes only.
CREATE TABLE tombstone (
    study_hash BIGINT NOT NULL,
    member_id INTEGER NOT NULL,
    record_hash BIGINT NOT NULL,        -- hash8 of the record key it was under
    version BIGINT NOT NULL,            -- newest act on it
    revision INTEGER NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (study_hash, member_id, record_hash)
) WITHOUT ROWID;

-- FHIR ids that answer 410 (D12): of holdings withdrawn or moved.
CREATE TABLE gone (
    fhir_hash BIGINT NOT NULL,
    fhir_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (fhir_hash, fhir_id)
) WITHOUT ROWID;

-- Per member: its cursor (D10) and its census (D19), changed in the transaction of every act.
CREATE TABLE member_feed (
    member_id INTEGER PRIMARY KEY,
    cursor_version BIGINT NOT NULL,
    studies BIGINT NOT NULL,
    census BLOB NOT NULL
);

-- Holdings that know only their entry and wait for the Enricher (D17).
CREATE TABLE enrich_pending (
    record_key BIGINT NOT NULL,
    study_hash BIGINT NOT NULL,
    member_id INTEGER NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (record_key, study_hash, member_id)
);

-- XDS objects that are no studies, whole (D6). record_key 0: of no patient.
CREATE TABLE xds_object (
    record_key BIGINT NOT NULL,
    entry_hash BIGINT NOT NULL,
    kind TEXT NOT NULL,
    entry_uuid TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    logical_id TEXT NOT NULL,
    status TEXT NOT NULL,
    member_id INTEGER NOT NULL,         -- 0: of no member
    updated BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (record_key, entry_hash, entry_uuid)
);

-- Hash of an entry UUID, a unique id or a link's target -> the object.
CREATE TABLE xds_locator (
    hash BIGINT NOT NULL,
    record_key BIGINT NOT NULL,
    entry_hash BIGINT NOT NULL,
    PRIMARY KEY (hash, record_key, entry_hash)
) WITHOUT ROWID;
