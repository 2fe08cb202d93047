"""Frames and pictures."""
