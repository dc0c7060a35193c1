"""deletion: one sentence to be written."""
