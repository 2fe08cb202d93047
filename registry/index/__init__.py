"""THE index: store on SQLite or PostgreSQL, schema deltas, life cycle."""
