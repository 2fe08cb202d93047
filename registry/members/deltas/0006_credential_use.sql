-- When a token or a certificate was last shown here, to the minute. Derived: nothing is decided by it.
CREATE TABLE credential_use (
    kind TEXT NOT NULL,               -- token | certificate
    id TEXT NOT NULL,                 -- jti | serial number
    used TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
