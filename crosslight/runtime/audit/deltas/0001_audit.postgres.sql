CREATE TABLE audit_entry (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, value, seq)
);
CREATE INDEX audit_object_seq ON audit_object (seq);
CREATE FUNCTION audit_append_only() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
CREATE TRIGGER audit_entry_kept BEFORE UPDATE OR DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_object_kept BEFORE UPDATE OR DELETE ON audit_object FOR EACH ROW EXECUTE FUNCTION audit_append_only();
