-- Whose a quarantined object is: the patient attributes of its header (DICOM JSON); empty where no header could be read.
ALTER TABLE quarantine ADD COLUMN patient BLOB NOT NULL DEFAULT x'';
