"""Sign-in, tokens, roles, policy."""
