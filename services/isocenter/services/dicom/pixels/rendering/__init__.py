"""Rendering: stored pixels to what a person looks at (PS3.3 C.7.6.3, C.11; PS3.4 N.2)."""
