"""Removal of objects that came to a store and never into the index, or left it."""
