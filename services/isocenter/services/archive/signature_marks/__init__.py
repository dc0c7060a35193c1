"""Marks of digital signatures: what came of the verification of each signed object."""
