-- Members, invitations and certificates are authoritative (D8); presence is derived.
CREATE TABLE member (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    repository_unique_id TEXT NOT NULL UNIQUE,
    retrieve_location_uid TEXT NOT NULL,
    authority TEXT NOT NULL,
    secret TEXT NOT NULL,             -- hex
    epoch INTEGER NOT NULL,           -- the newest granted (D10)
    state_id TEXT NOT NULL,           -- of the node's database, as it last said
    status TEXT NOT NULL,             -- invited | active | suspended | foreign
    status_since TEXT NOT NULL,
    status_reason TEXT NOT NULL,
    hosts TEXT NOT NULL,              -- JSON: names in its certificate
    endpoints TEXT NOT NULL           -- JSON
);
CREATE TABLE member_code (
    code TEXT NOT NULL,
    valid_from TEXT NOT NULL,
    valid_until TEXT,                 -- NULL = now
    member BIGINT NOT NULL,
    PRIMARY KEY (code, valid_from)
);
CREATE UNIQUE INDEX member_code_now ON member_code (code) WHERE valid_until IS NULL;
CREATE TABLE invitation (
    secret_hash TEXT PRIMARY KEY,     -- SHA-256, hex
    member BIGINT NOT NULL,
    made TEXT NOT NULL,
    expires TEXT NOT NULL,
    used TEXT
);
CREATE TABLE certificate (
    serial TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    member BIGINT,
    issued TEXT NOT NULL,
    expires TEXT NOT NULL
);
CREATE TABLE membership_counter (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO membership_counter VALUES ('member', 0);
INSERT INTO membership_counter VALUES ('version', 1);
CREATE TABLE member_presence (
    member BIGINT PRIMARY KEY,
    process TEXT NOT NULL,            -- which process holds the link (D25)
    reachable INTEGER NOT NULL,
    since TEXT,                       -- since when unreachable
    last_heard TEXT,
    report TEXT NOT NULL              -- JSON: what the last heartbeat said
);
