"""Unified procedure steps (PS3.4 Annex CC): workitems and subscriptions to them."""
