"""Compression by rule: objects kept in another transfer syntax, without loss."""
