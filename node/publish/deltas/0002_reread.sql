-- Under which rules the studies were last read, and how far: a change of the configuration reads all of them again.
CREATE TABLE publish_reread (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    rules TEXT NOT NULL,              -- a hash of them
    after TEXT NOT NULL,              -- the last study that was read
    done INTEGER NOT NULL
);
