"""Ports of remote nodes: where they are kept, and how one is spoken to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.attribute_path import KeyName
from isocenter.services.workflow.nodes.node import Node, NodeState
from isocenter.services.workflow.nodes.remote_study import RemoteStudy


class NodeBook(Protocol):
    """Keeps nodes, durably, for all processes.  Failures are `StorageError`."""

    async def add(self, node: Node) -> bool:
        """False: there is one of that name already."""
        ...

    async def get(self, name: str) -> Node | None: ...

    async def all(self) -> Sequence[Node]:
        """By name."""
        ...

    async def update(self, node: Node) -> bool:
        """Exchange what people say of it; what was verified is forgotten.

        Returns:
            False: it is gone, or has another version by now.
        """
        ...

    async def remove(self, name: str) -> bool:
        """False: there is none."""
        ...

    async def note_check(self, node: Node, check: NodeCheck) -> bool:
        """Keep what a verification came to, if the node is what was verified; whether its state
        is another one now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCheck:
    """What a verification came to."""

    state: NodeState
    at: float
    fault: str = ""
    response_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteInstance:
    """An object that a node says it has."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


class NodeError(IsocenterError):
    """A node was reached and does not do what is needed; the message says what and why."""


#: SOP Instance UID, bytes of the data set, and what was against keeping it (empty: nothing).
Arrived = Callable[[str, int, str], None]
#: An object, and what the node said against it (empty: nothing).
Told = Callable[[StoredInstance, str], None]


class RemoteArchive(Protocol):
    """A node that is being spoken to.

    What its methods raise: `ConnectError`, `AssociationError`, `DeadlineExceeded` when it cannot
    be reached or is lost; `NodeError` and `OperationError` when it refuses.
    """

    async def verify(self) -> None:
        """C-ECHO, or a search for nothing."""
        ...

    async def search(self, keys: Sequence[tuple[str, str]], limit: int) -> Sequence[RemoteStudy]:
        """Studies that match *keys*, at most so many."""
        ...

    def instances(
        self, keys: Sequence[tuple[KeyName, str]]
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[RemoteInstance]]]:
        """All objects of the studies that match *keys*, a list for each study."""
        ...

    async def retrieve(
        self, wanted: Sequence[RemoteInstance], arrived: Arrived, *, is_whole_study: bool
    ) -> str:
        """Have objects of one study stored here; it returns when nothing more comes.

        Whoever asks looks afterwards at what the archive has.

        Args:
            arrived: hears of what came, or could not be kept, while it goes on; of some ways
                to retrieve it hears nothing.
            is_whole_study: they are all that the study has.

        Returns:
            What the node said against it; empty: nothing.
        """
        ...

    async def send(self, instances: Sequence[StoredInstance], told: Told) -> None:
        """Send objects.

        Args:
            told: hears of each, as soon as it is answered.
        """
        ...


#: Speaks to a node for as long as the context lasts.
OpenNode = Callable[[Node], AbstractAsyncContextManager[RemoteArchive]]
