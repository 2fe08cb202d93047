-- variant_use: how many visible instances of a study (series_uid = '') and of each of its series have which attribute set, and the
-- least SOP Instance UID of them: what ranks the sets, without reading the instances again
CREATE TABLE variant_use (
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    variant INTEGER NOT NULL,
    n INTEGER NOT NULL,
    least_uid TEXT NOT NULL,
    PRIMARY KEY (study_uid, series_uid, variant)
) WITHOUT ROWID;
INSERT INTO variant_use (study_uid, series_uid, variant, n, least_uid)
    SELECT study_uid, '', study_variant, COUNT(*), MIN(sop_uid) FROM instance WHERE visible = 1 GROUP BY study_uid, study_variant;
INSERT INTO variant_use (study_uid, series_uid, variant, n, least_uid)
    SELECT study_uid, series_uid, series_variant, COUNT(*), MIN(sop_uid) FROM instance WHERE visible = 1
    GROUP BY study_uid, series_uid, series_variant;
-- birth_date: YYYYMMDD, or whatever else stands there without dots and hyphens
ALTER TABLE study ADD COLUMN birth_date TEXT NOT NULL DEFAULT '';
UPDATE study SET birth_date = trim(replace(replace(
    COALESCE(json_extract(CAST(attributes AS TEXT), '$."00100030".Value[0]'), ''), '.', ''), '-', ''));
CREATE INDEX study_birth ON study (birth_date);
-- Identifiers with more values than one, which a prefix of the column does not find.
CREATE INDEX study_patients ON study (study_uid) WHERE instr(patient_id, '\') > 0;
