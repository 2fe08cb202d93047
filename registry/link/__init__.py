"""The members' link over gRPC: calls by certificate, epochs, the session, and the feed of publications."""
