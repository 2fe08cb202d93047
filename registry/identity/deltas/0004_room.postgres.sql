-- A newer study moves `newest_study`, which no index has: with room in its page a record is changed there (HOT), without ten
-- new index entries. Pages that are full already get theirs as they are written anew.
ALTER TABLE patient_record SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
