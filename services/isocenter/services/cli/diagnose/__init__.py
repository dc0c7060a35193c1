"""diagnose: one sentence to be written."""
