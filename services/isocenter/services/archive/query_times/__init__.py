"""Times that the database of an archive takes."""
