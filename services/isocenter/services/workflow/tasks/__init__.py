"""Tasks: work that an archive does by itself, at times that somebody has set."""
