-- source_notice: a study of which a source was said to have something new (Instance Availability Notification)
CREATE TABLE source_notice (
    source TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    told_unix REAL NOT NULL,
    due_unix REAL NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (source, study_uid)
) WITHOUT ROWID;
