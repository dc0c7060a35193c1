"""archive: one sentence to be written."""
