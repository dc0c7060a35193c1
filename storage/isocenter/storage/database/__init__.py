"""Adapters of the ports that need a database."""
