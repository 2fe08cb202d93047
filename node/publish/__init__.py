"""Revisions, manifests, the durable outbox and its roads (gRPC, SOAP)."""
