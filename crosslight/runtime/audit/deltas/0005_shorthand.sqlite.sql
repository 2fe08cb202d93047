-- Acts in few bytes: who acted and how, studies and authorities are named once a year, by keyed hashes of what they say; an
-- outcome stands by its act. Older rows stay as they are. Numbers of acts go on far above the older ones.
CREATE TABLE audit_secret (secret TEXT NOT NULL);
INSERT INTO audit_secret SELECT lower(hex(randomblob(32)));
CREATE TABLE audit_said (
    number INTEGER PRIMARY KEY,
    until INTEGER NOT NULL,
    face TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    organisation TEXT NOT NULL,
    who TEXT NOT NULL,
    decision TEXT NOT NULL,
    rule TEXT NOT NULL,
    peer TEXT NOT NULL
);
CREATE TABLE audit_study (
    number INTEGER PRIMARY KEY,
    until INTEGER NOT NULL,
    uid TEXT NOT NULL
);
CREATE TABLE audit_authority (
    number INTEGER PRIMARY KEY,
    until INTEGER NOT NULL,
    authority TEXT NOT NULL
);
CREATE TABLE audit_act (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    correlation BLOB NOT NULL,
    said INTEGER NOT NULL,
    body BLOB NOT NULL,
    studies BLOB NOT NULL
);
INSERT INTO sqlite_sequence (name, seq) SELECT 'audit_act', coalesce(max(seq) + 1000000, 0) FROM audit_entry;
CREATE TABLE audit_outcome (
    act INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    outcome TEXT NOT NULL
);
CREATE TABLE audit_patient_act (
    patient INTEGER NOT NULL,
    act INTEGER NOT NULL,
    PRIMARY KEY (patient, act)
) WITHOUT ROWID;
ALTER TABLE audit_expiry ADD COLUMN before_ms INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER audit_act_once BEFORE INSERT ON audit_act WHEN EXISTS (SELECT 1 FROM audit_act WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_outcome_once BEFORE INSERT ON audit_outcome WHEN EXISTS (SELECT 1 FROM audit_outcome WHERE act = NEW.act) BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER audit_said_once BEFORE INSERT ON audit_said WHEN EXISTS (SELECT 1 FROM audit_said WHERE number = NEW.number) BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER audit_study_once BEFORE INSERT ON audit_study WHEN EXISTS (SELECT 1 FROM audit_study WHERE number = NEW.number) BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER audit_authority_once BEFORE INSERT ON audit_authority WHEN EXISTS (SELECT 1 FROM audit_authority WHERE number = NEW.number) BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER audit_secret_once BEFORE INSERT ON audit_secret BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_secret_kept BEFORE UPDATE ON audit_secret BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_secret_stays BEFORE DELETE ON audit_secret BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_act_kept BEFORE UPDATE ON audit_act BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_outcome_kept BEFORE UPDATE ON audit_outcome BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_act_kept BEFORE UPDATE ON audit_patient_act BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_said_kept BEFORE UPDATE ON audit_said BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_study_kept BEFORE UPDATE ON audit_study BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_authority_kept BEFORE UPDATE ON audit_authority BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_act_stays BEFORE DELETE ON audit_act WHEN NOT coalesce(OLD.at < (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_outcome_stays BEFORE DELETE ON audit_outcome WHEN NOT coalesce((SELECT at FROM audit_act WHERE seq = OLD.act) < (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_act_stays BEFORE DELETE ON audit_patient_act WHEN NOT coalesce((SELECT at FROM audit_act WHERE seq = OLD.act) < (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_said_stays BEFORE DELETE ON audit_said WHEN NOT coalesce(OLD.until <= (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_study_stays BEFORE DELETE ON audit_study WHEN NOT coalesce(OLD.until <= (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_authority_stays BEFORE DELETE ON audit_authority WHEN NOT coalesce(OLD.until <= (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
