"""events: one sentence to be written."""
