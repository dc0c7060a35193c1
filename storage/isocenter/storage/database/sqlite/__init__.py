"""SQLite: connection, schema, functions, statistics, checks, copies."""
