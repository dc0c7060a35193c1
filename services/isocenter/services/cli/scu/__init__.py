"""Commands that ask a peer for something (service class users)."""
