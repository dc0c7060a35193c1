"""Invariant: whatever a requestor sends, our acceptor never raises, and every association ends.

Input: see `playing.play`.
"""

from __future__ import annotations

from playing import play

from isocenter.engine.negotiation import Role


def run(data: bytes) -> None:
    play(Role.ACCEPTOR, data)
