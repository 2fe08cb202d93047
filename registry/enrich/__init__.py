"""Completing studies that were registered by their entry only: what is due, how a manifest is read, what it adds (D17)."""
