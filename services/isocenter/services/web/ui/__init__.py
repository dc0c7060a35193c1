"""Web pages: the archive in a browser."""
