"""Tiers: places for objects that differ in price and speed, and moving between them."""
