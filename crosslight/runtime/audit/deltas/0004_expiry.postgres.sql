-- Rows may go once their time is over, by an expiry that is itself a row for good. TRUNCATE passes by the triggers of rows.
CREATE TABLE audit_expiry (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TEXT NOT NULL,
    before TEXT NOT NULL,
    acts BIGINT NOT NULL,
    oldest TEXT NOT NULL,
    newest TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE FUNCTION audit_entry_expires() RETURNS trigger AS 'BEGIN IF OLD.at < (SELECT max(before) FROM audit_expiry) THEN RETURN OLD; END IF; RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
CREATE FUNCTION audit_patient_expires() RETURNS trigger AS 'BEGIN IF (SELECT at FROM audit_entry WHERE seq = OLD.seq) < (SELECT max(before) FROM audit_expiry) THEN RETURN OLD; END IF; RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
DROP TRIGGER audit_entry_kept ON audit_entry;
DROP TRIGGER audit_patient_kept ON audit_patient;
CREATE TRIGGER audit_entry_kept BEFORE UPDATE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_kept BEFORE UPDATE ON audit_patient FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_entry_stays BEFORE DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_entry_expires();
CREATE TRIGGER audit_patient_stays BEFORE DELETE ON audit_patient FOR EACH ROW EXECUTE FUNCTION audit_patient_expires();
CREATE TRIGGER audit_entry_whole BEFORE TRUNCATE ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_whole BEFORE TRUNCATE ON audit_patient FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_expiry_kept BEFORE UPDATE OR DELETE ON audit_expiry FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_expiry_whole BEFORE TRUNCATE ON audit_expiry FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
