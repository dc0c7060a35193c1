"""Port of workitems: where they, subscriptions to them, and events of them are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.service_classes.ups.events import WorkitemEvent
from isocenter.services.service_classes.ups.query import WorkitemKeys
from isocenter.services.service_classes.ups.workitem import Workitem, WorkitemState


class Channel(Enum):
    """How a subscriber is told."""

    DIMSE = "dimse"
    WEB = "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """Who is told of workitems.

    Attributes:
        as_ae_title: by which name of ours it knows us.
        has_lock: its workitems are not deleted.
        owner: who subscribes over the web; its AE title is nobody else's from then on.
    """

    ae_title: str
    channel: Channel
    as_ae_title: str
    has_lock: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemSummary:
    """One line of a list of workitems, without what it says of a patient.

    Attributes:
        subscribers: how many are told of it.
    """

    sop_instance_uid: str
    state: WorkitemState
    priority: str
    label: str
    worklist_label: str
    scheduled_start: str
    progress: str
    changed_at: float
    subscribers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvent:
    """An event for a subscriber of the web, until it was sent."""

    number: int
    kind: int
    sop_instance_uid: str
    data_set: bytes


#: A workitem as it was → what becomes of it: nothing, or one state after the other.
Change = Callable[[Workitem], Sequence[Workitem]]


class Workitems(Protocol):
    """Keeps workitems, durably.  Failures are `StorageError`.

    Events of a change are queued for its subscribers in the transaction of the change, in order.
    """

    async def create(self, workitem: Workitem) -> bool:
        """Keep a new workitem; False: there is one with its UID, and nothing was changed."""
        ...

    async def change(self, sop_instance_uid: str, change: Change) -> Workitem:
        """Put what *change* makes of a workitem in its place; nobody else changes it meanwhile.

        What *change* raises comes out, and nothing was changed.

        Raises:
            KeyError: there is no such workitem.
        """
        ...

    async def get(self, sop_instance_uid: str) -> Workitem | None: ...

    def find(
        self, keys: WorkitemKeys
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Workitem]]]:
        """Those that match, in blocks, the earliest first."""
        ...

    async def tell(self, event: WorkitemEvent) -> int:
        """Queue an event for all subscribers of its workitem; how many there are."""
        ...

    async def tell_all(self, event: Callable[[str], WorkitemEvent]) -> int:
        """Queue an event for everyone who has subscribed to anything; how many they are.

        Args:
            event: made for an instance: the workitem, or the global subscription.
        """
        ...

    async def subscribe(self, sop_instance_uid: str, subscriber: Subscriber) -> None:
        """Tell somebody of a workitem, at once how it stands; again: only the lock changes.

        Raises:
            KeyError: there is no such workitem.
            UpsError: 0124H: its AE title is another one's of the web; 0213H: there are as many
                subscribers of the web as there may be.
        """
        ...

    async def subscribe_globally(self, subscriber: Subscriber, filter_keys: bytes | None) -> None:
        """Tell somebody of all workitems, those that come as well.

        Args:
            filter_keys: an identifier in explicit VR little endian, of those alone that match;
                None: of all.

        Raises:
            UpsError: as of `subscribe`.
        """
        ...

    async def unsubscribe(
        self, sop_instance_uid: str, ae_title: str, channel: Channel, owner: str | None = None
    ) -> None:
        """Tell somebody no more.

        Args:
            owner: who asks for it over the web; None: somebody who may for anybody.

        Raises:
            KeyError: there is no such workitem.
            UpsError: 0124H: the AE title is another one's.
        """
        ...

    async def unsubscribe_globally(
        self, ae_title: str, channel: Channel, owner: str | None = None
    ) -> None:
        """Tell somebody of nothing any more; its AE title of the web is free again.

        Args, Raises: as of `unsubscribe`, but for `KeyError`.
        """
        ...

    async def suspend(self, ae_title: str, channel: Channel, owner: str | None = None) -> None:
        """Tell somebody of no workitem that comes, but of those that are subscribed to.

        Args, Raises: as of `unsubscribe`, but for `KeyError`.
        """
        ...

    async def may_listen(self, ae_title: str, owner: str) -> bool:
        """Whether an AE title of the web is nobody else's.  One that subscribed before titles had
        owners is nobody's until it does so again."""
        ...

    async def waiting_events(self, ae_title: str, owner: str, limit: int) -> Sequence[WaitingEvent]:
        """What a subscriber of the web has not been sent yet, oldest first; none of another's."""
        ...

    async def sent(self, ae_title: str, owner: str, up_to: int) -> None:
        """It was sent all up to that number."""
        ...

    async def rows(
        self, *, state: WorkitemState | None = None, limit: int = 100
    ) -> Sequence[WorkitemSummary]:
        """The latest, newest first."""
        ...

    async def remove_ended(self, before: float) -> int:
        """Remove final ones that have not changed since *before* and that nobody has locked.

        Some at a time; how many.  0: there are no more.
        """
        ...
