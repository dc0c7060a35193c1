"""Port of the processes of a server: associations and log of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.association.server import LiveAssociation
from isocenter.services.notices import Caller
from isocenter.services.system.recent_log import LogLine


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationFigures:
    """What there was of associations.

    Attributes:
        active: they last now; at most *most* may.
        total, rejected, aborted: since the start.
        operations: of peers, that have ended.
    """

    active: int = 0
    most: int = 0
    total: int = 0
    rejected: int = 0
    aborted: int = 0
    operations: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Associations:
    """Those that last, the oldest first, and figures.

    Attributes:
        answering: of how many processes.
    """

    lasting: Sequence[LiveAssociation]
    figures: AssociationFigures
    answering: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines of the log, the latest first.

    Attributes:
        answering: of how many processes.
    """

    lines: Sequence[LogLine]
    answering: int = 1


class ServerProcesses(Protocol):
    """The processes of a server.  One that does not answer at once is left out."""

    @property
    def number(self) -> int:
        """How many there are to be."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether the server takes no more associations."""
        ...

    async def associations(self) -> Associations:
        """Associations of all of them."""
        ...

    async def end_association(self, name: str, by: Caller) -> bool:
        """Abort the association of that name at once, whichever process has it; False: none has."""
        ...

    async def log(self) -> Lines:
        """The latest lines of the log."""
        ...
