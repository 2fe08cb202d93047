-- When a certificate that was issued was first shown here (ADR 0035): older ones of its holder are withdrawn then. Authoritative (D8).
CREATE TABLE certificate_use (
    serial TEXT PRIMARY KEY,
    seen TEXT NOT NULL
);
CREATE INDEX certificate_identity ON certificate (identity);
-- What somebody should look at, by member, until somebody says that they have.
CREATE TABLE member_alarm (
    member BIGINT NOT NULL,
    kind TEXT NOT NULL,               -- two-holders | superseded | renewals
    first TEXT NOT NULL,
    last TEXT NOT NULL,
    times BIGINT NOT NULL,
    detail TEXT NOT NULL,             -- of the last one
    PRIMARY KEY (member, kind)
);
