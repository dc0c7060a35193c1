"""Attributes changed on arrival, while the data set streams through."""
