"""diagnostics: one sentence to be written."""
