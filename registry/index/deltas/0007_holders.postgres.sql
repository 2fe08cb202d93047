-- All that one member holds, for a comparison with it (ADR 0009): without this each page reads the whole key. A bucket of record
-- keys, so that equal keys share an entry: seven to ten bytes a study. SQLite, whose regions are small, walks the key.
CREATE INDEX holding_member ON holding (member_id, (record_key >> 51));
-- A fifth of 55 million rows is too long to wait for. Each revision moves `updated`, which is indexed: no room in pages would help.
ALTER TABLE holding SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02);
-- Few rows, changed by each transaction: a new version finds room in its page (HOT).
ALTER TABLE member_feed SET (fillfactor = 50);
ALTER TABLE person_stream SET (fillfactor = 50);
