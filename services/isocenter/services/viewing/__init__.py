"""Support of viewers: what images say, and marks of people on them."""
