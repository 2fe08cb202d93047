-- large_metadata: DICOM JSON of an instance's large sequences; apart, so that searches need not read it
CREATE TABLE large_metadata (
    id INTEGER PRIMARY KEY,
    zstd BLOB NOT NULL
);
