-- Patient records, what they claim, and how they are linked to persons (D2-D4). Both engines.
-- Times are microseconds since 1970 UTC. Keys are random (D7); no sequence and no foreign key crosses patients.

CREATE TABLE patient_record (
    record_key BIGINT PRIMARY KEY,
    person_key BIGINT NOT NULL,         -- record_key of the person's anchor: its first record
    authority TEXT NOT NULL,            -- assigning authority (OID) of the local id
    local_id TEXT NOT NULL,
    member BIGINT,
    fhir_id TEXT NOT NULL,              -- random; the person's while this record is its anchor, an alias otherwise
    minted TEXT NOT NULL,               -- affinity-domain id under the region's authority, while no national number is held
    birth_date TEXT NOT NULL,
    family_key TEXT NOT NULL,           -- normalised, see names.py
    family_alt TEXT NOT NULL,           -- of the ideographic group
    traced SMALLINT NOT NULL,
    disputed SMALLINT NOT NULL,
    subsumed_by BIGINT,                 -- by A40
    newest_study BIGINT,                -- start of its newest study
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    digest TEXT NOT NULL,               -- of the last feed, so that a repeated one costs one read
    patient TEXT NOT NULL               -- JSON
);

CREATE UNIQUE INDEX patient_record_local ON patient_record (authority, local_id);
CREATE INDEX patient_record_person ON patient_record (person_key);
CREATE UNIQUE INDEX patient_record_fhir ON patient_record (fhir_id);
CREATE INDEX patient_record_minted ON patient_record (minted);
CREATE INDEX patient_record_family ON patient_record (birth_date, family_key);
CREATE INDEX patient_record_alt ON patient_record (birth_date, family_alt) WHERE family_alt <> '';
CREATE INDEX patient_record_local_value ON patient_record (local_id);
CREATE INDEX patient_record_disputed ON patient_record (record_key) WHERE disputed = 1;

-- Valid national numbers that records claim.
CREATE TABLE national_claim (
    authority TEXT NOT NULL,
    value TEXT NOT NULL,
    record_key BIGINT NOT NULL,
    PRIMARY KEY (authority, value, record_key)
);

CREATE INDEX national_claim_record ON national_claim (record_key);

-- Who holds a number by D3; NULL at a tie. The row is also the lock that serialises its claims.
CREATE TABLE national_number (
    authority TEXT NOT NULL,
    value TEXT NOT NULL,
    person_key BIGINT,
    PRIMARY KEY (authority, value)
);

-- National numbers that were a person's affinity-domain id and that nobody claims any more (D4).
CREATE TABLE former_id (
    authority TEXT NOT NULL,
    value TEXT NOT NULL,
    record_key BIGINT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (authority, value, record_key)
);

-- Ids subsumed by A40 (ITI TF-2 3.8.4.2).
CREATE TABLE subsumed_id (
    authority TEXT NOT NULL,
    value TEXT NOT NULL,
    into_authority TEXT NOT NULL,
    into_value TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    PRIMARY KEY (authority, value)
);

CREATE INDEX subsumed_id_into ON subsumed_id (into_authority, into_value);

-- What people and merges decided: 'same' joins two records, 'apart' keeps one alone, 'merge' is an A40 of two records.
-- Never removed: ended.
CREATE TABLE identity_decision (
    decision_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    record_key BIGINT NOT NULL,
    other_key BIGINT,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    ended_at BIGINT,
    ended_who TEXT,
    ended_why TEXT
);

CREATE INDEX identity_decision_record ON identity_decision (record_key);
CREATE INDEX identity_decision_other ON identity_decision (other_key);

-- Every move of a record between persons (D2): append only.
CREATE TABLE person_link (
    record_key BIGINT NOT NULL,
    n INTEGER NOT NULL,
    from_person BIGINT NOT NULL,
    to_person BIGINT NOT NULL,
    disputed SMALLINT NOT NULL,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (record_key, n)
);
