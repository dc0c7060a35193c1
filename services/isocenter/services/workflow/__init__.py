"""workflow: one sentence to be written."""
