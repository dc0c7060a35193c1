"""Corrections in the database: their records, what holds for an object, and the exchange."""
