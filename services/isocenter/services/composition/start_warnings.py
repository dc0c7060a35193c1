"""Warnings of a start, and of each reload: of settings, and of signing keys."""

from __future__ import annotations

from isocenter.services.composition.signatures import signing_fault
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.warnings import warnings


def start_warnings(settings: Settings) -> list[str]:
    """What is allowed and should be known, one line each; reads files."""
    return [text for text in (*warnings(settings), signing_fault(settings)) if text]
