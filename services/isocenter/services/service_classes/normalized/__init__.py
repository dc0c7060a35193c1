"""What the normalized service classes have in common (PS3.7 10)."""
