"""TLS: contexts by the profiles of PS3.15 Annex B, and transports."""
