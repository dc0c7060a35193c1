"""Objects as files: staged, synced, linked under their name."""
