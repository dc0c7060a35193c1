"""What rules have done with an object, as values."""

from __future__ import annotations

from enum import IntEnum

from isocenter.engine.fast_init import dataclass


class ForwardPriority(IntEnum):
    """Which objects of a destination leave first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An object is to be sent to one peer.

    Attributes:
        destination: AE title of one of the peers.
        rule: the name of the rule that says so.
        delay: seconds from storing to the first attempt.
        commit: ask the peer for storage commitment afterwards.
        delete_after: once it has committed, and no other peer waits for it, the object leaves
            this archive.
    """

    destination: str
    rule: str
    delay: float = 0.0
    priority: ForwardPriority = ForwardPriority.NORMAL
    commit: bool = False
    delete_after: bool = False
