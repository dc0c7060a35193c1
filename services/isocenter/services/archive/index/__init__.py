"""Index of the archive: attributes, queries, matching, extraction."""
