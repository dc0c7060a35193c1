"""Deleting, the trash, restoring, and legal holds."""
