"""Errors of a policy."""

from __future__ import annotations

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError


class PolicyError(IsocenterError):
    """A policy that cannot be, or somebody who is not believed: why, and what is allowed."""

    error_code = ErrorCode.POLICY


class MayNotGiveError(PolicyError):
    """Somebody wants to give others what they may not do themselves."""

    error_code = ErrorCode.PERMISSION
