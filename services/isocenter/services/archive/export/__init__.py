"""Objects of the archive, written to folders and ZIP files."""
