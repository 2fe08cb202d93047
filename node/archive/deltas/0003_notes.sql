-- notes: what the reader tolerated in an object, a bit each in the order of crosslight/standards/dicom/verdict.py
ALTER TABLE instance ADD COLUMN notes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX instance_noted ON instance (study_uid, notes) WHERE notes <> 0 AND visible = 1;
