"""Whole tables, as they are carried from one database to another."""
