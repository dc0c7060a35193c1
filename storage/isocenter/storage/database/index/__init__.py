"""Adapters of the port `Index`."""
