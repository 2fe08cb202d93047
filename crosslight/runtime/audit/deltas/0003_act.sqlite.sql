-- An outcome names its act: two acts of one call may be of one face and action. Rows of older releases are told apart by
-- correlation, face and action, as before.
ALTER TABLE audit_entry ADD COLUMN act INTEGER;
