-- Acts in few bytes: who acted and how, studies and authorities are named once a year, by keyed hashes of what they say; an
-- outcome stands by its act. Older rows stay as they are. Numbers of acts go on far above the older ones.
CREATE TABLE audit_secret (secret TEXT NOT NULL);
INSERT INTO audit_secret SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
CREATE TABLE audit_said (
    number BIGINT PRIMARY KEY,
    until BIGINT NOT NULL,
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
    number BIGINT PRIMARY KEY,
    until BIGINT NOT NULL,
    uid TEXT NOT NULL
);
CREATE TABLE audit_authority (
    number BIGINT PRIMARY KEY,
    until BIGINT NOT NULL,
    authority TEXT NOT NULL
);
CREATE TABLE audit_act (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    said BIGINT NOT NULL,
    correlation BYTEA NOT NULL,
    body BYTEA NOT NULL,
    studies BYTEA NOT NULL
);
SELECT setval(pg_get_serial_sequence('audit_act', 'seq'), max(seq) + 1000000) FROM audit_entry HAVING max(seq) IS NOT NULL;
CREATE TABLE audit_outcome (
    act BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE TABLE audit_patient_act (
    patient BIGINT NOT NULL,
    act BIGINT NOT NULL
);
CREATE INDEX audit_patient_act_patient ON audit_patient_act (patient);
ALTER TABLE audit_expiry ADD COLUMN before_ms BIGINT NOT NULL DEFAULT 0;
CREATE FUNCTION instr(bytea, bytea) RETURNS integer AS 'SELECT position($2 IN $1)' LANGUAGE sql IMMUTABLE;
CREATE FUNCTION audit_act_expires() RETURNS trigger AS 'BEGIN IF OLD.at < (SELECT max(before_ms) FROM audit_expiry) THEN RETURN OLD; END IF; RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
CREATE FUNCTION audit_of_act_expires() RETURNS trigger AS 'BEGIN IF (SELECT at FROM audit_act WHERE seq = OLD.act) < (SELECT max(before_ms) FROM audit_expiry) THEN RETURN OLD; END IF; RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
CREATE FUNCTION audit_name_expires() RETURNS trigger AS 'BEGIN IF OLD.until <= (SELECT max(before_ms) FROM audit_expiry) THEN RETURN OLD; END IF; RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
CREATE TRIGGER audit_act_kept BEFORE UPDATE ON audit_act FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_act_stays BEFORE DELETE ON audit_act FOR EACH ROW EXECUTE FUNCTION audit_act_expires();
CREATE TRIGGER audit_act_whole BEFORE TRUNCATE ON audit_act FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_outcome_kept BEFORE UPDATE ON audit_outcome FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_outcome_stays BEFORE DELETE ON audit_outcome FOR EACH ROW EXECUTE FUNCTION audit_of_act_expires();
CREATE TRIGGER audit_outcome_whole BEFORE TRUNCATE ON audit_outcome FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_act_kept BEFORE UPDATE ON audit_patient_act FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_act_stays BEFORE DELETE ON audit_patient_act FOR EACH ROW EXECUTE FUNCTION audit_of_act_expires();
CREATE TRIGGER audit_patient_act_whole BEFORE TRUNCATE ON audit_patient_act FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_said_kept BEFORE UPDATE ON audit_said FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_said_stays BEFORE DELETE ON audit_said FOR EACH ROW EXECUTE FUNCTION audit_name_expires();
CREATE TRIGGER audit_said_whole BEFORE TRUNCATE ON audit_said FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_study_kept BEFORE UPDATE ON audit_study FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_study_stays BEFORE DELETE ON audit_study FOR EACH ROW EXECUTE FUNCTION audit_name_expires();
CREATE TRIGGER audit_study_whole BEFORE TRUNCATE ON audit_study FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_authority_kept BEFORE UPDATE ON audit_authority FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_authority_stays BEFORE DELETE ON audit_authority FOR EACH ROW EXECUTE FUNCTION audit_name_expires();
CREATE TRIGGER audit_authority_whole BEFORE TRUNCATE ON audit_authority FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_secret_kept BEFORE UPDATE ON audit_secret FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_secret_stays BEFORE DELETE ON audit_secret FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_secret_whole BEFORE TRUNCATE ON audit_secret FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_secret_once BEFORE INSERT ON audit_secret FOR EACH ROW EXECUTE FUNCTION audit_append_only();
