-- What an act showed stands in its own entry; patients alone have an index. One row and a few index pages an act, where
-- each study had cost two.
CREATE TABLE audit_patient (
    value TEXT NOT NULL,
    authority TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (value, authority, seq)
) WITHOUT ROWID;
INSERT INTO audit_patient
    SELECT substr(value, instr(value, '|') + 1), substr(value, 1, instr(value, '|') - 1), seq FROM audit_object WHERE kind = 'patient';
DROP TRIGGER audit_entry_kept;
ALTER TABLE audit_entry ADD COLUMN patients TEXT NOT NULL DEFAULT '[]';
ALTER TABLE audit_entry ADD COLUMN studies TEXT NOT NULL DEFAULT '[]';
UPDATE audit_entry SET
    patients = (SELECT json_group_array(value) FROM audit_object o WHERE o.seq = audit_entry.seq AND o.kind = 'patient'),
    studies = (SELECT json_group_array(value) FROM audit_object o WHERE o.seq = audit_entry.seq AND o.kind = 'study');
DROP TABLE audit_object;
CREATE TRIGGER audit_entry_kept BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_kept BEFORE UPDATE ON audit_patient BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_patient_stays BEFORE DELETE ON audit_patient BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
