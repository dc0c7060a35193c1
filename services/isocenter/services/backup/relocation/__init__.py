"""Relocation of a whole archive to another database and another object store."""
