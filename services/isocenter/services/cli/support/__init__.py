"""support: one sentence to be written."""
