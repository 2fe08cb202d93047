-- Who registered an object of a source that is no member (ADR 0036): it alone may change or remove it. Authoritative (D8).
-- What was registered before this was kept has no row, and is whoever's who may register for its repository.
CREATE TABLE entry_owner (
    entry_uuid TEXT PRIMARY KEY,
    subject TEXT NOT NULL
);
