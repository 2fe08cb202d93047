-- Publication: revisions of studies, and what each destination wants and has (D14, D15).

-- One row: the node's version counter and its name as a database.
CREATE TABLE publish_node (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    state_id TEXT NOT NULL,             -- random; new after a restore, so that the registry sees it (D10)
    epoch INTEGER NOT NULL,             -- 0: none granted yet
    next_n INTEGER NOT NULL,            -- first n of the epoch not given out
    secret TEXT NOT NULL                -- hex; used only where no registry of ours gives one (D18)
);

CREATE TABLE publish_destination (
    destination TEXT PRIMARY KEY,
    incarnation TEXT NOT NULL,          -- of the registry that acknowledged last; '' none
    acked_epoch INTEGER NOT NULL,
    acked_n INTEGER NOT NULL,           -- highest n acknowledged in that epoch
    filling INTEGER NOT NULL,           -- first fill or reconciliation under way
    reconcile TEXT NOT NULL             -- why a comparison is owed; '' none
);

-- The newest revision of each study, and the archive's change mark that it saw.
CREATE TABLE publish_study (
    study_uid TEXT PRIMARY KEY,
    state TEXT NOT NULL,                -- live | deleted | withdrawn
    epoch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    digest TEXT NOT NULL,               -- of the record; '' when not live
    progress TEXT NOT NULL,
    patient TEXT NOT NULL,              -- JSON identifier
    seen_change INTEGER NOT NULL,
    forced INTEGER NOT NULL DEFAULT 0   -- make a new revision although nothing changed
);
CREATE INDEX publish_study_forced ON publish_study (study_uid) WHERE forced = 1;
CREATE INDEX publish_study_arriving ON publish_study (study_uid) WHERE progress = 'arriving';

-- What was fixed at each revision. The manifest stays as long as it can be asked for.
CREATE TABLE publish_revision (
    epoch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    study_uid TEXT NOT NULL,
    document_uid TEXT NOT NULL,
    sha1 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    creation_time TEXT NOT NULL,
    submission_time TEXT NOT NULL,
    digest TEXT NOT NULL,
    patient TEXT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,    -- a destination may have seen it
    record BLOB,                        -- zstd of JSON; NULL once nothing can need it
    manifest BLOB NOT NULL,             -- zstd of the KOS file
    PRIMARY KEY (epoch, n)
);
CREATE INDEX publish_revision_study ON publish_revision (study_uid);

-- The outbox. A row is there while something is to be done; sent_* while an act may be on its way.
CREATE TABLE publish_intent (
    destination TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    want TEXT NOT NULL,                 -- publish | deprecate | withdraw
    epoch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    digest TEXT NOT NULL,
    patient TEXT NOT NULL,
    sent TEXT NOT NULL DEFAULT '',      -- kind of the act in flight
    sent_epoch INTEGER NOT NULL DEFAULT 0,
    sent_n INTEGER NOT NULL DEFAULT 0,
    sent_replaces TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_unix REAL NOT NULL DEFAULT 0,
    parked_code TEXT NOT NULL DEFAULT '',
    parked_why TEXT NOT NULL DEFAULT '',
    parked_unix REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, study_uid)
) WITHOUT ROWID;
CREATE INDEX publish_intent_due ON publish_intent (destination, epoch, n) WHERE parked_code = '';

-- What each destination has acknowledged.
CREATE TABLE publish_acked (
    destination TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    digest TEXT NOT NULL,
    sha1 TEXT NOT NULL,
    status TEXT NOT NULL,
    patient TEXT NOT NULL,
    chain TEXT NOT NULL,                -- versions since the fresh one, oldest first: "1.5 1.9"
    study_date TEXT NOT NULL,           -- YYYYMMDD, '' undated
    PRIMARY KEY (destination, study_uid)
) WITHOUT ROWID;
CREATE INDEX publish_acked_date ON publish_acked (destination, study_date) WHERE study_date <> '';

-- Patients fed over ITI-8.
CREATE TABLE publish_fed (
    destination TEXT NOT NULL,
    authority TEXT NOT NULL,
    value TEXT NOT NULL,
    digest TEXT NOT NULL,               -- of the demographics as last acknowledged
    PRIMARY KEY (destination, authority, value)
) WITHOUT ROWID;
