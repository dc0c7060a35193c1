"""Errors of making objects."""

from __future__ import annotations

from isocenter.engine.errors import IsocenterError


class SourceError(IsocenterError):
    """A file cannot become an object; the message says why, and the cure."""


class UnknownSourceError(SourceError):
    """A file is of no kind that can become an object."""
