"""Adapters of the ports of forwarding."""
