"""Settings: the table of them, what their values may be, and where they come from."""
