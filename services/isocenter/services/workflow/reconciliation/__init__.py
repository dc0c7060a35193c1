"""Patient reconciliation: demands of other systems, done to the archive (IHE RAD PIR)."""
