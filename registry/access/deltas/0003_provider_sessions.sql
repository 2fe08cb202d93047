-- What the identity provider calls a session (OpenID Connect Back-Channel Logout 1.0), and when it last vouched for its roles.
-- A session of an older release has no row here: its roles are as old as itself.
CREATE TABLE provider_session (
    id_hash TEXT PRIMARY KEY,         -- of the session
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,            -- the provider's `sub`
    sid TEXT NOT NULL,                -- '' = it named none
    checked TEXT NOT NULL
);
CREATE INDEX provider_session_subject ON provider_session (issuer, subject);
CREATE TABLE logout_token (           -- each is taken once
    id_hash TEXT PRIMARY KEY,         -- of issuer and jti
    ends TEXT NOT NULL
);
