"""Data sets and their meaning, without network or archive."""
