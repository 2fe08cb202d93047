-- commitment_request: a peer was asked to keep instances of a study; answered_unix is NULL until it has reported
CREATE TABLE commitment_request (
    transaction_uid TEXT PRIMARY KEY,
    peer TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    asked_unix REAL NOT NULL,
    answered_unix REAL
) WITHOUT ROWID;
CREATE INDEX commitment_of_study ON commitment_request (study_uid, asked_unix);
-- commitment_instance: verdict is NULL until it has, then 0 (kept for good) or the Failure Reason (0008,1197)
CREATE TABLE commitment_instance (
    transaction_uid TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    verdict INTEGER,
    PRIMARY KEY (transaction_uid, sop_uid)
) WITHOUT ROWID;
