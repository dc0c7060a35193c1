"""Invariant: whatever an acceptor sends, our requestor never raises, and every association ends.

Input: see `playing.play`.
"""

from __future__ import annotations

from playing import play

from isocenter.engine.negotiation import Role


def run(data: bytes) -> None:
    play(Role.REQUESTOR, data)
