"""Retrieve Imaging Document Set (RAD-69) as source, and as consumer."""
