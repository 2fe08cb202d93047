-- Merges of national numbers (A40) that a source said and may not decide: for a person, or for a second source. Both engines.
-- Open while decision_id is of no decision in force.
CREATE TABLE merge_request (
    survivor_authority TEXT NOT NULL,
    survivor_value TEXT NOT NULL,
    gone_authority TEXT NOT NULL,
    gone_value TEXT NOT NULL,
    source TEXT NOT NULL,               -- member:ID or system:NAME
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    decision_id TEXT,                   -- what was decided of it
    PRIMARY KEY (gone_authority, gone_value, survivor_authority, survivor_value, source)
);
