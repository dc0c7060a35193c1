"""sqlite: one sentence to be written."""
