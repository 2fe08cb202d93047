"""The pages, one file for each: its handlers, its routes, and the dataclass of what its template shows."""
