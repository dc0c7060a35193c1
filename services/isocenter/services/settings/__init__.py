"""Settings: table, value types, sources."""
