-- What outside systems may do, tokens that were given, and what was ended before its time. Authoritative (D8).
CREATE TABLE system_grant (
    identity TEXT PRIMARY KEY,        -- URI, as its certificates name it
    grants TEXT NOT NULL,             -- JSON
    since TEXT NOT NULL,
    upgrade INTEGER NOT NULL          -- 1 = what its role gave before there were grants; nobody granted it
);
CREATE TABLE issued_token (
    token_id TEXT PRIMARY KEY,        -- jti; the token itself is kept nowhere
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    organisation TEXT NOT NULL,
    grants TEXT NOT NULL,             -- JSON
    issued TEXT NOT NULL,
    expires TEXT NOT NULL
);
CREATE TABLE withdrawn_credential (
    kind TEXT NOT NULL,               -- token | certificate
    id TEXT NOT NULL,                 -- jti | serial number
    ends TEXT NOT NULL,               -- when it would have ended by itself: told to nobody after that
    at TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
-- Who made the entry of a repository that is no member's; '' = before this was kept.
CREATE TABLE foreign_source (
    member BIGINT PRIMARY KEY,
    subject TEXT NOT NULL
);
CREATE INDEX foreign_source_subject ON foreign_source (subject);

-- An upgrade cuts off no system that works (ADR 0036).
INSERT INTO system_grant (identity, grants, since, upgrade)
SELECT identity, '{"capabilities":["export","feed","find","open","publish","store"],"authorities":["*"],"repositories":["*"],"store_at":"*"}',
    min(issued), 1
FROM certificate WHERE identity LIKE 'spiffe://%/system/%' GROUP BY identity;
UPDATE membership_counter SET value = value + 1 WHERE name = 'version';
