"""integration: one sentence to be written."""
