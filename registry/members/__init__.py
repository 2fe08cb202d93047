"""Invitations, the certificate authority, heartbeats, suspension."""
