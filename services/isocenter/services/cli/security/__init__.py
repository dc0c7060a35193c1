"""security: one sentence to be written."""
