-- One local id that was given to more than one person: a part of a record is a row of its own, under the same id. Part 0 is the
-- record; the others are what its headers say that is not the record's. Both engines.
ALTER TABLE patient_record ADD COLUMN part SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE patient_record ADD COLUMN part_of BIGINT;                       -- the record that a part is of
ALTER TABLE patient_record ADD COLUMN in_doubt SMALLINT NOT NULL DEFAULT 0; -- a part that nobody decided on yet
ALTER TABLE patient_record ADD COLUMN headers SMALLINT NOT NULL DEFAULT 1;  -- different headers among its studies; more than one: in record_header
ALTER TABLE patient_record ADD COLUMN parts SMALLINT NOT NULL DEFAULT 0;    -- parts that studies are of, besides the record itself
ALTER TABLE patient_record ADD COLUMN fed SMALLINT NOT NULL DEFAULT 0;      -- by a source that the region names: headers never change it
ALTER TABLE patient_record ADD COLUMN former TEXT NOT NULL DEFAULT '';      -- of a fed one: what it was before, as headers are compared (JSON)

DROP INDEX patient_record_local;
CREATE UNIQUE INDEX patient_record_local ON patient_record (authority, local_id, part);
CREATE INDEX patient_record_part ON patient_record (part_of) WHERE part_of IS NOT NULL;
CREATE INDEX patient_record_doubt ON patient_record (record_key) WHERE in_doubt = 1;
CREATE INDEX patient_record_fed ON patient_record (authority) WHERE fed = 1;

-- The headers of a record that has several, and which part each is of; of a record with one there is nothing here.
CREATE TABLE record_header (
    record_key BIGINT NOT NULL,
    header_key BIGINT NOT NULL,         -- hash of the header as it is compared (header.py)
    part_key BIGINT NOT NULL,           -- record_key of the record itself, or of one of its parts
    seq INTEGER NOT NULL,               -- order of arrival
    PRIMARY KEY (record_key, header_key)
);

-- holders = settled: who holds a number goes on holding it. In a database that is being filled, ties are nobody's.
CREATE TABLE identity_meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
INSERT INTO identity_meta (name, value) SELECT 'holders', 'settled' WHERE EXISTS (SELECT 1 FROM patient_record);
