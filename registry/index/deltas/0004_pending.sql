-- Who waits for the Enricher, in the order of its turn: without this each look at the first few read all that wait (D17).
CREATE INDEX enrich_pending_turn ON enrich_pending (member_id, since, record_key, study_hash);
