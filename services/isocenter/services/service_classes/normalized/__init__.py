"""Parts that the normalized service classes share (PS3.7 10)."""
