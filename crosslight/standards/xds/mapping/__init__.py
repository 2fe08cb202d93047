"""From our study to DocumentEntries and back: views, codes, people, references, times."""
