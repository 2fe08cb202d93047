"""Asks a registry or a node over the open standards, as an outsider would; `doctor` is built on it."""
