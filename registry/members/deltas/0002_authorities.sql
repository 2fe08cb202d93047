-- Patient authorities that are a member's own beside the one allotted to it (ADR 0023). Authoritative (D8).
CREATE TABLE member_authority (
    member BIGINT NOT NULL,
    authority TEXT NOT NULL,          -- OID
    place INTEGER NOT NULL,           -- the first agreed one is that of numbers which name no issuer
    asked TEXT,                       -- when its node asked for it
    agreed TEXT,                      -- NULL = nobody has yet
    PRIMARY KEY (member, authority)
);
CREATE INDEX member_authority_oid ON member_authority (authority);
