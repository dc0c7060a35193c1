"""Storage service class (PS3.4 Annex B)."""
