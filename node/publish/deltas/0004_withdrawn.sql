-- Why and since when a study is withdrawn (publish_study.state = 'withdrawn'): for safety, or because it is sealed (D16).
CREATE TABLE publish_withdrawn (
    study_uid TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    since_unix REAL NOT NULL
);
