"""net: one sentence to be written."""
