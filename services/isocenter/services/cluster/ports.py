"""Ports of a cluster: nodes, leases, and documents that all nodes share.

All times are by the clock of the database, which all nodes have in common.  Failures are
`StorageError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.cluster.fence import Fence
from isocenter.services.cluster.member import Member, MemberState, NodeIdentity


class Members(Protocol):
    """The nodes of an archive."""

    async def join(self, node: NodeIdentity) -> None:
        """Be one of them, with state `MemberState.UP`.

        Raises:
            NameTakenError: another one of that name lives.
            LeftBehindError: the program does not know what the database was migrated to.
        """
        ...

    async def free_claims(self, node: NodeIdentity) -> None:
        """No process of the node's data directory lives: free what they had claimed; nothing, if
        another node has the name."""
        ...

    async def beat(
        self, node: NodeIdentity, *, ends: bool, own_clock: float, answer_seconds: float
    ) -> MemberState | None:
        """Give a sign of life; what state the node is to have, None: it was removed, or
        may not be one of them any more (`join` says why).

        Args:
            ends: it takes no associations any more.
            own_clock: what the clock of the node says, in seconds since 1970.
            answer_seconds: how long the last one took.
        """
        ...

    async def leave(self, node: NodeIdentity) -> None:
        """Say that the node ends."""
        ...

    async def list(self) -> Sequence[Member]:
        """All, by their names."""
        ...

    async def drain(self, name: str) -> bool:
        """Have a node end as soon as what it does is done; False: there is none that lives."""
        ...

    async def give_up_lost(self) -> Sequence[str]:
        """Free what nodes had claimed that say nothing any more; their names, each once."""
        ...

    async def remove(self, name: str) -> bool:
        """Forget a node, and free what it had claimed; False: there is none.

        Raises:
            StorageError: it lives.
        """
        ...


class Leases(Protocol):
    """Leases of duties, each of which one worker has at a time."""

    async def take(self, duty: str, holder: str, seconds: float) -> Fence | None:
        """Have *duty* for so long; None: somebody has it.  Costs no write then."""
        ...

    async def renew(self, fence: Fence, seconds: float) -> bool:
        """Have it for so long from now on; False: it is lost."""
        ...

    async def give_back(self, fence: Fence) -> None:
        """Somebody else may have it at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that all nodes share.

    Attributes:
        version: one more with each change; 0: there is none yet.
    """

    name: str
    version: int
    content: str = ""


class SharedDocuments(Protocol):
    """Texts that all nodes share, by their names."""

    async def get(self, name: str) -> Document:
        """One of them, or one that is empty."""
        ...

    async def versions(self) -> dict[str, int]:
        """The version of each."""
        ...

    async def put(self, document: Document) -> bool:
        """Keep it as the next version of what has this one; False: it has another by now."""
        ...
