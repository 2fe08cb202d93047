-- move: how far the objects are on their way to another disk: folders of objects copied, 0 to 256; copied_unix, ended_unix: 0 = not yet
CREATE TABLE move (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    target TEXT NOT NULL,
    folders INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    began_unix REAL NOT NULL,
    copied_unix REAL NOT NULL,
    ended_unix REAL NOT NULL,
    left_behind INTEGER NOT NULL
);
