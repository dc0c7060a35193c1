"""HTTP on listeners of our own."""
