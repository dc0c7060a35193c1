"""Marks on images, states of viewers, and studies seen, in the database."""
