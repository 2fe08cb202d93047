-- What a caller was permitted beyond the table of roles, shared by all processes of the registry (ADR 0037).
-- Callers are stored as hashes of their names.
CREATE TABLE export_count (
    caller TEXT NOT NULL,
    hour BIGINT NOT NULL,             -- since 1970
    answered BIGINT NOT NULL,         -- questions that named nobody
    refused BIGINT NOT NULL,
    PRIMARY KEY (caller, hour)
);
CREATE TABLE disputed_opening (
    caller TEXT NOT NULL,
    person BIGINT NOT NULL,           -- person_key
    ends TEXT NOT NULL,
    PRIMARY KEY (caller, person)
);
