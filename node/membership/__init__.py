"""What a node is a member of: a region (join, link, renewal), or nothing but a registry of others (D18)."""
