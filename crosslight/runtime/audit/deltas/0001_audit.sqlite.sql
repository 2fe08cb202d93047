CREATE TABLE audit_entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    correlation TEXT NOT NULL,
    at TEXT NOT NULL,
    face TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    organisation TEXT NOT NULL,
    purpose TEXT NOT NULL,
    who TEXT NOT NULL,
    decision TEXT NOT NULL,
    rule TEXT NOT NULL,
    peer TEXT NOT NULL,
    query TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX audit_entry_correlation ON audit_entry (correlation);
CREATE TABLE audit_object (
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, value, seq)
) WITHOUT ROWID;
CREATE INDEX audit_object_seq ON audit_object (seq);
CREATE TRIGGER audit_entry_kept BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_entry_stays BEFORE DELETE ON audit_entry BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_object_kept BEFORE UPDATE ON audit_object BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_object_stays BEFORE DELETE ON audit_object BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
