"""Rejection notes: Key Object Selections that hide what they reference (IHE RAD IOCM)."""
