"""A trust's side: keeps its own images, publishes an index of them, and releases them when asked."""
