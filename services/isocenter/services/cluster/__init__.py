"""Several nodes of one archive: who they are, and who of them does what."""
