"""What the standard demands of a message and of the registry: submissions, stored queries, errors."""
