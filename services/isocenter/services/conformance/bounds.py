"""Bounds of settings, in words."""

from __future__ import annotations


def bound(number: int) -> str:
    """0 is none."""
    return f"{number:,}" if number else "no limit"
