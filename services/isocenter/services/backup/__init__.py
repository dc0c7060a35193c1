"""Copies of a whole archive: made beside a running server, verified, and restored."""
