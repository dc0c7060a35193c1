"""Search over the web (QIDO-RS, PS3.18 10.6)."""
