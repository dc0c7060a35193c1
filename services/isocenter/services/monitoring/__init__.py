"""Metrics, health and spans for operators."""
