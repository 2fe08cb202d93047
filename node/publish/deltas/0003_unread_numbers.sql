-- How many national numbers of a study's patient fail their check, as of its newest revision: not used, kept as received, shown.
ALTER TABLE publish_study ADD COLUMN unread INTEGER NOT NULL DEFAULT 0;
CREATE INDEX publish_study_unread ON publish_study (study_uid) WHERE unread > 0;
