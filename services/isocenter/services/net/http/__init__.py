"""http: one sentence to be written."""
