"""Local time with its offset, for output."""

from __future__ import annotations

from datetime import datetime


def local_time(seconds: float | None) -> str:
    """Seconds since 1970 as text; empty when there are none."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
