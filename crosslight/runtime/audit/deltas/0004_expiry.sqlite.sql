-- Rows may go once their time is over, by an expiry that is itself a row for good. INSERT OR REPLACE passes by the triggers
-- of what it replaces.
CREATE TABLE audit_expiry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    before TEXT NOT NULL,
    acts INTEGER NOT NULL,
    oldest TEXT NOT NULL,
    newest TEXT NOT NULL,
    digest TEXT NOT NULL
);
DROP TRIGGER audit_entry_stays;
DROP TRIGGER audit_patient_stays;
CREATE TRIGGER audit_entry_stays BEFORE DELETE ON audit_entry WHEN NOT coalesce(OLD.at < (SELECT max(before) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_stays BEFORE DELETE ON audit_patient WHEN NOT coalesce((SELECT at FROM audit_entry WHERE seq = OLD.seq) < (SELECT max(before) FROM audit_expiry), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_entry_once BEFORE INSERT ON audit_entry WHEN EXISTS (SELECT 1 FROM audit_entry WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_expiry_once BEFORE INSERT ON audit_expiry WHEN EXISTS (SELECT 1 FROM audit_expiry WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_expiry_kept BEFORE UPDATE ON audit_expiry BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_expiry_stays BEFORE DELETE ON audit_expiry BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
