"""index: one sentence to be written."""
