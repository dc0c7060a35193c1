"""Retrieval over the web (WADO-RS, PS3.18 10.4; WADO-URI, PS3.18 9)."""
