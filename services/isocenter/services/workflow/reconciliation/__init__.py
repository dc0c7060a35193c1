"""Patient reconciliation: what other systems say of patients, done to the archive (IHE RAD PIR)."""
