-- The names that every row has (D13) stand in the row, as its study's does: a locator's row and index entry cost 82 bytes,
-- a column and its index entry 37. What a locator row leads to already is still found there (read.py asks both).
-- The table is made anew so that its columns need no padding.

ALTER TABLE holding RENAME TO holding_before;
ALTER TABLE holding_before DROP CONSTRAINT holding_pkey;
DROP INDEX holding_started;
DROP INDEX holding_updated;
DROP INDEX holding_study;

CREATE TABLE holding (
    record_key BIGINT NOT NULL,
    study_hash BIGINT NOT NULL,         -- hash8 of the StudyInstanceUID, which is verified in body
    tag_hash BIGINT NOT NULL,           -- of the 80 bits in all derived ids (D9); 0: a foreign source's, whose ids are locators
    fhir_hash BIGINT NOT NULL,          -- of the FHIR id
    accession_hash BIGINT NOT NULL,     -- of the first accession number, others are locators; 0: none
    started BIGINT NOT NULL,            -- low end of the study's UTC interval, Unix seconds; undated: the smallest
    updated BIGINT NOT NULL,            -- Unix milliseconds
    version BIGINT NOT NULL,            -- epoch * 2^24 + n of the newest act on it; -1 for a foreign source's
    revision INTEGER NOT NULL,          -- the registry's revision of this row (D12)
    member_id INTEGER NOT NULL,
    modalities INTEGER NOT NULL,        -- bits, see rows.py
    patient_n SMALLINT NOT NULL,        -- which of the record's texts in patient_text it was submitted with
    flags SMALLINT NOT NULL,            -- 1 deprecated, 2 arriving, 4 digest not of the holder
    body BYTEA NOT NULL,                -- codec.py
    extra BYTEA NOT NULL                -- what templates do not say (D6); empty for our own nodes
);
ALTER TABLE holding ALTER body SET STORAGE EXTERNAL;
ALTER TABLE holding ALTER extra SET STORAGE EXTERNAL;

INSERT INTO holding SELECT record_key, study_hash, 0, 0, 0, started, updated, version, revision, member_id, modalities, patient_n,
    flags, body, extra FROM holding_before;
DROP TABLE holding_before;

ALTER TABLE holding ADD PRIMARY KEY (record_key, study_hash, member_id);
-- Buckets, so that equal keys share an entry: newest first needs a small sort within one day or one second.
CREATE INDEX holding_started ON holding ((started / 86400));
CREATE INDEX holding_updated ON holding ((updated / 1000));
-- Locators local to the row while there is one machine; sharded by patient they become rows of locator.
CREATE INDEX holding_study ON holding (study_hash);
CREATE INDEX holding_tag ON holding (tag_hash);
CREATE INDEX holding_fhir ON holding (fhir_hash);
CREATE INDEX holding_accession ON holding (accession_hash);
