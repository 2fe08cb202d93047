-- hold: what is kept whatever any rule or command says: a study, a patient's studies, or all; lifted_unix = 0 while it stands
CREATE TABLE hold (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    authority TEXT NOT NULL,
    number TEXT NOT NULL,
    reason TEXT NOT NULL,
    placed_by TEXT NOT NULL,
    placed_unix REAL NOT NULL,
    lifted_by TEXT NOT NULL DEFAULT '',
    lifted_why TEXT NOT NULL DEFAULT '',
    lifted_unix REAL NOT NULL DEFAULT 0
);
CREATE INDEX hold_standing ON hold (kind, study_uid) WHERE lifted_unix = 0;
-- purging = 1: its objects are being removed for good
ALTER TABLE bin ADD COLUMN purging INTEGER NOT NULL DEFAULT 0;
-- study_opened: when an object of a study was opened last; nothing is known of before care.opened_since_unix
CREATE TABLE study_opened (
    study_uid TEXT PRIMARY KEY,
    opened_unix REAL NOT NULL
) WITHOUT ROWID;
ALTER TABLE care ADD COLUMN opened_since_unix REAL NOT NULL DEFAULT 0;
UPDATE care SET opened_since_unix = CAST(strftime('%s', 'now') AS REAL);
