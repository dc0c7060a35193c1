"""forwarding: one sentence to be written."""
