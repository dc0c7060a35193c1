"""system: one sentence to be written."""
