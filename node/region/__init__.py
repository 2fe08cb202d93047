"""The node's end of membership: join, certificate renewal, the link to the registry."""
