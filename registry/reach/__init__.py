"""How a member is called: its addresses, its session with mutual TLS, its release token."""
