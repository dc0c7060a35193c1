"""Conflict of a setting with others, as a value."""

from __future__ import annotations

from typing import NamedTuple


class Conflict(NamedTuple):
    """The key of a setting, and what is wrong with its value beside those of the others."""

    key: str
    fault: str
    beside: tuple[str, ...]
