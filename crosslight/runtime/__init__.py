"""IO helpers behind seams: clock, ids, files, workers, database, TLS, HTTP shell, configuration, logging."""
