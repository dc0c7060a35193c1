"""Errors of a policy."""

from __future__ import annotations

from isocenter.engine.errors import IsocenterError


class PolicyError(IsocenterError):
    """A policy that cannot be, or somebody who is not believed: why, and what is allowed."""


class MayNotGiveError(PolicyError):
    """Somebody wants to give others what they may not do themselves."""
