"""scu: one sentence to be written."""
