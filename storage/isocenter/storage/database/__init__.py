"""database: one sentence to be written."""
