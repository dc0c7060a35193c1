"""retention: one sentence to be written."""
