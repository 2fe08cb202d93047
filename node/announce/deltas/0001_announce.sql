-- announce_peer: how far a peer's cursor through the change marks is; it begins where the marks were then
CREATE TABLE announce_peer (
    peer TEXT PRIMARY KEY,
    serial INTEGER NOT NULL
) WITHOUT ROWID;
-- announce_waiting: a study that changed, and that the peer was not told of since
CREATE TABLE announce_waiting (
    peer TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    change INTEGER NOT NULL,
    first_unix REAL NOT NULL,
    last_unix REAL NOT NULL,
    tries INTEGER NOT NULL,
    not_before_unix REAL NOT NULL,
    PRIMARY KEY (peer, study_uid)
) WITHOUT ROWID;
-- announce_told: the digest of the instances that the peer has taken word of
CREATE TABLE announce_told (
    peer TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (peer, study_uid)
) WITHOUT ROWID;
