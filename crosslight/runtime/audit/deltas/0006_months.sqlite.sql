-- The patients of an act are named once a year, as studies are: a number stands for all of them together, and an act is
-- found by each through audit_patient_whom. Acts of audit_patient_act stay as they are.
CREATE TABLE audit_whom (
    number INTEGER PRIMARY KEY,
    until INTEGER NOT NULL,
    patients TEXT NOT NULL
);
CREATE TABLE audit_patient_whom (
    patient INTEGER NOT NULL,
    whom INTEGER NOT NULL,
    PRIMARY KEY (patient, whom)
) WITHOUT ROWID;
ALTER TABLE audit_act ADD COLUMN whom INTEGER;
CREATE INDEX audit_act_whom ON audit_act (whom) WHERE whom IS NOT NULL;
CREATE TRIGGER audit_whom_once BEFORE INSERT ON audit_whom WHEN EXISTS (SELECT 1 FROM audit_whom WHERE number = NEW.number) BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER audit_whom_kept BEFORE UPDATE ON audit_whom BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_whom_kept BEFORE UPDATE ON audit_patient_whom BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_whom_stays BEFORE DELETE ON audit_whom WHEN NOT coalesce(OLD.until <= (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_whom_stays BEFORE DELETE ON audit_patient_whom WHEN NOT coalesce((SELECT until FROM audit_whom WHERE number = OLD.whom) <= (SELECT max(before_ms) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
