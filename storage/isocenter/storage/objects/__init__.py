"""objects: one sentence to be written."""
