"""The region's side: one index of who holds what, and the faces that answer from it."""
