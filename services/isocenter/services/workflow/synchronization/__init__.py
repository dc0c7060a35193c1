"""Synchronisation: what this archive and a remote node have, kept alike."""
