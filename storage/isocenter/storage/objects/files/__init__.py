"""files: one sentence to be written."""
