"""Ports of remote nodes: where they are kept, and how one is spoken to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm
from isocenter.services.dicom.attribute_path import KeyName
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.services.workflow.nodes.node import Node, NodeState
from isocenter.services.workflow.nodes.remote_study import RemoteStudy


class NodeBook(Protocol):
    """Keeps nodes, durably, for all processes.  Failures are `StorageError`.

    A token is sent to the origin of the first node that named its file, also when that is gone.
    """

    async def add(self, node: Node, *, moves_token: bool = False) -> bool:
        """False: there is one of that name already.

        Args:
            moves_token: from now on its token is sent to its address.

        Raises:
            TokenElsewhereError: its token was given for another address.
        """
        ...

    async def get(self, name: str) -> Node | None: ...

    async def all(self) -> Sequence[Node]:
        """By name."""
        ...

    async def update(self, node: Node) -> bool:
        """Exchange what people say of it; what was verified is forgotten.

        Returns:
            False: it is gone, or has another version by now.

        Raises:
            TokenElsewhereError: its token was given for another address.
        """
        ...

    async def remove(self, name: str) -> bool:
        """False: there is none."""
        ...

    async def note_check(self, node: Node, check: NodeCheck) -> bool:
        """Keep what a verification came to, if the node is what was verified; whether its state
        is another one now."""
        ...


class LimitBook(Protocol):
    """Keeps limits of destinations, durably, for all processes.  Failures are `StorageError`."""

    async def limits(self) -> Sequence[DestinationLimit]:
        """Those that there are, by destination."""
        ...

    async def set_limit(self, limit: DestinationLimit) -> None:
        """Put it in the place of what was; it is held as before."""
        ...

    async def hold(self, destination: str, *, is_held: bool) -> bool:
        """Hold or release a destination; False: it is so already."""
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

    error_code = ErrorCode.NODE


class TokenElsewhereError(NodeError):
    """The token of a node was given for another address."""

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"the token in that file was given for {origin}, and is sent nowhere else; name "
            "another file, or say on the server that it may: isocenter node add … --move-token"
        )


#: SOP Instance UID, bytes of the data set, and what was against keeping it (empty: nothing).
Arrived = Callable[[str, int, str], None]
#: An object, and what the node said against it (empty: nothing).
Told = Callable[[StoredInstance, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDigest:
    """Digests of an object: as it is kept and as it came, and in which transfer syntax it is."""

    transfer_syntax_uid: str
    digests: frozenset[str]


class RetrievableArchive(Protocol):
    """Somebody who is being asked for objects; raises as `RemoteArchive` does."""

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


class RemoteArchive(RetrievableArchive, Protocol):
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

    async def digests(self, study_instance_uid: str) -> Mapping[str, ObjectDigest] | None:
        """Of the objects of a study, by SOP Instance UID; None: the node does not tell."""
        ...

    async def send(
        self, instances: Sequence[StoredInstance], told: Told, form: SentForm = AS_IT_IS
    ) -> None:
        """Send objects.

        Args:
            told: hears of each, as soon as it is answered.
            form: in which they leave.
        """
        ...


#: Speaks to a node for as long as the context lasts.
OpenNode = Callable[[Node], AbstractAsyncContextManager[RemoteArchive]]
