-- Approved imaging documents that are no study of the index: manifests that do not say of which study they are until they were
-- read (D17), key object notes, reports that name a study. A patient who has one of a study that is not held here is not proven
-- to have nothing more (D19). Rows of xds_object, found by patient record.
CREATE TABLE imaging_document (
    record_key BIGINT NOT NULL,
    entry_hash BIGINT NOT NULL,         -- as in xds_object
    entry_uuid TEXT NOT NULL,
    member_id INTEGER NOT NULL,
    studies TEXT NOT NULL,              -- the StudyInstanceUIDs that it is known to be of, parted by blanks
    waits SMALLINT NOT NULL,            -- 1: it is a manifest by its format, and waits for the Enricher to read it
    since BIGINT NOT NULL,              -- Unix milliseconds
    PRIMARY KEY (record_key, entry_hash, entry_uuid)
);
CREATE INDEX imaging_document_waits ON imaging_document (since) WHERE waits = 1;
CREATE INDEX imaging_document_unknown ON imaging_document (member_id) WHERE studies = '';
