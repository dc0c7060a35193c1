"""Adapters of the port of jobs."""
