-- What an act showed stands in its own entry; patients alone have an index. One row and a few index pages an act, where
-- each study had cost two.
CREATE TABLE audit_patient (
    value TEXT NOT NULL,
    authority TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (value, authority, seq)
);
INSERT INTO audit_patient
    SELECT substr(value, strpos(value, '|') + 1), substr(value, 1, strpos(value, '|') - 1), seq FROM audit_object WHERE kind = 'patient';
DROP TRIGGER audit_entry_kept ON audit_entry;
ALTER TABLE audit_entry ADD COLUMN patients TEXT NOT NULL DEFAULT '[]';
ALTER TABLE audit_entry ADD COLUMN studies TEXT NOT NULL DEFAULT '[]';
UPDATE audit_entry SET
    patients = coalesce((SELECT json_agg(value)::text FROM audit_object o WHERE o.seq = audit_entry.seq AND o.kind = 'patient'), '[]'),
    studies = coalesce((SELECT json_agg(value)::text FROM audit_object o WHERE o.seq = audit_entry.seq AND o.kind = 'study'), '[]');
DROP TABLE audit_object;
CREATE TRIGGER audit_entry_kept BEFORE UPDATE OR DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_kept BEFORE UPDATE OR DELETE ON audit_patient FOR EACH ROW EXECUTE FUNCTION audit_append_only();
