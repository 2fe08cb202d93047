-- Where what a stranger began came from: no address may have all the room there is. A row beside each of signin and
-- demo_grant; what an older release begins has none, and counts for nobody.
CREATE TABLE begun (
    id_hash TEXT PRIMARY KEY,         -- of the row beside it
    what TEXT NOT NULL,               -- signin or demo_grant
    place TEXT NOT NULL,              -- hash of the address
    ends TEXT NOT NULL
);
CREATE INDEX begun_place ON begun (what, place, ends);
