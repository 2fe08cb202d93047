-- Sign-in state, shared by all processes of the registry (D25). Secrets are stored as hashes.
CREATE TABLE session (
    id_hash TEXT PRIMARY KEY,
    principal TEXT NOT NULL,          -- JSON
    csrf TEXT NOT NULL,
    created TEXT NOT NULL,
    seen TEXT NOT NULL,
    ends TEXT NOT NULL
);
CREATE TABLE signin (
    state_hash TEXT PRIMARY KEY,
    browser_hash TEXT NOT NULL,       -- of the cookie that binds it to one browser
    nonce TEXT NOT NULL,
    verifier TEXT NOT NULL,           -- PKCE
    return_to TEXT NOT NULL,
    ends TEXT NOT NULL
);
CREATE TABLE signin_failure (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,            -- hash of the name or address
    at TEXT NOT NULL
);
CREATE INDEX signin_failure_subject ON signin_failure (subject, at);
CREATE TABLE demo_grant (             -- the demo provider's tickets and codes
    id_hash TEXT PRIMARY KEY,
    body TEXT NOT NULL,               -- JSON
    ends TEXT NOT NULL
);
