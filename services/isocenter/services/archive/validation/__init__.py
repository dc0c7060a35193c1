"""Validation of objects on arrival: policies, what was found, and where it is kept."""
