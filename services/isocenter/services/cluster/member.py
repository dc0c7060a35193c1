"""Node: one server of several that are one archive."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError

#: A node that has said nothing for so long is taken for lost.
ALIVE_SECONDS: Final = 15.0


class NameTakenError(StorageError):
    """Another node of that name lives."""


class LeftBehindError(StorageError):
    """The database was migrated to what this program does not know."""


class MemberState(Enum):
    """How a node does."""

    UP = "up"
    #: It takes no associations any more, and ends when those that it has are over.
    DRAINING = "draining"
    #: It said that it ends.
    STOPPED = "stopped"
    #: It says nothing.
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node, as the others see it.

    Attributes:
        address: where it takes associations.
        version: of its program.
        started_at: seconds since 1970, as all times by the clock of the database.
        silent_seconds: since it last said something.
        clock_offset: seconds by which its clock is ahead of the database's.
        answer_seconds: how long the database takes to answer it.
        duties: what it does for all nodes right now, by name.
    """

    name: str
    state: MemberState
    address: str
    version: str
    started_at: float
    silent_seconds: float
    clock_offset: float
    answer_seconds: float
    duties: tuple[str, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether it may be at work."""
        return self.state in (MemberState.UP, MemberState.DRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What a node says of itself.

    Attributes:
        name: no two nodes that live have the same.
        place: tells its data directory from all others, so that it may begin again at once.
    """

    name: str
    place: str
    address: str = ""
    version: str = ""
