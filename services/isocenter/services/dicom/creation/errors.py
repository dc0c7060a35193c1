"""Errors of making objects."""

from __future__ import annotations

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError


class SourceError(IsocenterError):
    """A file cannot become an object; the message says why, and the cure."""

    error_code = ErrorCode.DOCUMENT


class UnknownSourceError(SourceError):
    """A file is of no kind that can become an object."""
