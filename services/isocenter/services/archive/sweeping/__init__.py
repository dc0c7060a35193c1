"""Removal of objects that are in a store and not in the index."""
