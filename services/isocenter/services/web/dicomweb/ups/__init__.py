"""Unified procedure steps over the web: UPS-RS (PS3.18 11), and their events (PS3.18 8.10)."""
