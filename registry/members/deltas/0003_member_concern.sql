-- Whom a member's unlisted studies concern, as hashes under the member's secret (D19): the newest set that its link sent.
-- Derived, like presence; hex, as secrets are.
CREATE TABLE member_concern (
    member BIGINT PRIMARY KEY,
    version TEXT NOT NULL,            -- the set that member_presence.report names, or a newer one
    waiting TEXT NOT NULL,
    refused TEXT NOT NULL,
    anybody_waiting INTEGER NOT NULL,
    anybody_refused INTEGER NOT NULL
);
