"""File-sets and their directories, DICOMDIR (PS3.10 8, PS3.3 Annex F)."""
