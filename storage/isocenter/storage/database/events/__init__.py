"""Adapters of the ports of events."""
