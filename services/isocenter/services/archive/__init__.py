"""Objects on their way into the archive, and looking after those that are there."""
