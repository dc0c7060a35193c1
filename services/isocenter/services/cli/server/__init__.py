"""server: one sentence to be written."""
