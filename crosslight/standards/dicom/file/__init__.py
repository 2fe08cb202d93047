"""One object as bytes: gate, walk, header, character sets, what is tolerated."""
