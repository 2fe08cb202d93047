-- What each commit changed, written in its transaction (ADR 0031). A stream is numbered without gaps under a lock that its writers
-- hold until they have committed: a member's under its row of member_feed, persons' under whichever row of person_stream is free.
CREATE TABLE index_change (
    stream INTEGER NOT NULL,            -- a member's id; below 0: of persons
    n BIGINT NOT NULL,                  -- 1, 2, … of the stream
    kind SMALLINT NOT NULL,             -- see changes.py
    waits SMALLINT NOT NULL,            -- 1: it waits for the Enricher (D17)
    revision INTEGER NOT NULL,          -- of the holding's row
    record_key BIGINT NOT NULL,         -- 0: of no patient
    former_key BIGINT NOT NULL,         -- moved: from under which record; 0: it is under the same
    at BIGINT NOT NULL,                 -- Unix milliseconds
    study_uid TEXT NOT NULL,            -- '' for other objects, and for persons
    entry_uuid TEXT NOT NULL,           -- of an object that is no study
    PRIMARY KEY (stream, n)
);
ALTER TABLE member_feed ADD COLUMN changes BIGINT NOT NULL DEFAULT 0;   -- how many this member's stream has had
CREATE TABLE person_stream (
    stream INTEGER PRIMARY KEY,         -- -1, -2, …: as many transactions at once may move persons
    changes BIGINT NOT NULL
);
INSERT INTO person_stream (stream, changes)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 64) SELECT -i, 0 FROM n;
-- Who is completing a study, or reading a document, so that no other process does the same at the same time (ADR 0031). Rows are
-- there only while somebody is at it; those of a process that died end by themselves.
CREATE TABLE enrich_lease (
    record_key BIGINT NOT NULL,         -- 0: a document whose study is not known
    name_hash BIGINT NOT NULL,          -- of the study, or of the document's entryUUID
    member_id INTEGER NOT NULL,
    holder TEXT NOT NULL,
    ends BIGINT NOT NULL,               -- Unix milliseconds
    PRIMARY KEY (record_key, name_hash, member_id)
);
