"""Digital signatures of data sets (PS3.15 Annex C, PS3.3 C.12.1.1.3)."""
