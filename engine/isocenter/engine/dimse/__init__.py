"""DIMSE (PS3.7): command sets, messages, statuses, and how they travel in fragments."""
