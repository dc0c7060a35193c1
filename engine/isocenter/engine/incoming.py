"""Messages of the peer with their data sets, in the order of arrival."""

from __future__ import annotations

from collections.abc import Callable

from isocenter.engine.dimse.message_codec import Message
from isocenter.engine.dimse.status import Status
from isocenter.engine.events import DataSetReceived, MessageReceived
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS

#: Takes a part of a data set, which is good until it returns; a status: it takes no more.
Sink = Callable[[memoryview], int | None]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that is whole.

    Attributes:
        data_set: what was gathered; empty when it went to a sink, or was refused; None: the message
            has none.
        status: what it was refused with on its way; None: it was not.
    """

    context_id: int
    message: Message
    data_set: bytes | None = None
    status: int | None = None


class Incoming:
    """The message that is on its way, of which there is one at most on an association.

    Whoever refuses a request lets its data set come all the same, and answers when it is whole:
    then a request has one answer at one place, with a data set or without.

    Args:
        longest: bytes of a data set that are gathered; of a longer one nothing is, and its
            status is A700H, out of resources.

    Attributes:
        status: what the message on its way was refused with; None: it was not.
    """

    __slots__ = ("_begun", "_gathered", "_longest", "_sink", "status")

    def __init__(self, longest: int = DEFAULT_LIMITS.identifier) -> None:
        self._longest = longest
        self._begun: MessageReceived | None = None
        self._gathered = bytearray()
        self._sink: Sink | None = None
        self.status: int | None = None

    def begin(self, event: MessageReceived, to: Sink | int | None = None) -> Arrived | None:
        """A message begins; what came of one before it is forgotten.

        Args:
            to: what takes its data set in parts; a status: it is refused, and its data set
                dropped; None: its data set is gathered.

        Returns:
            The message, when no data set follows.
        """
        self.forget()
        if isinstance(to, int):
            self.status = to
        else:
            self._sink = to
        if not event.has_data_set:
            return self._arrived(event, None)
        self._begun = event
        return None

    def add(self, event: DataSetReceived) -> Arrived | None:
        """The next part of its data set; the message, when that was the last.

        Parts of a message that was not begun here, or was forgotten, are dropped.
        """
        begun = self._begun
        if begun is None:
            return None
        if self.status is not None:
            pass
        elif self._sink is not None:
            self.status = self._sink(event.data)
        elif len(self._gathered) + len(event.data) > self._longest:
            self.refuse(Status.OUT_OF_RESOURCES)
        else:
            self._gathered += event.data
        if not event.is_last:
            return None
        return self._arrived(begun, bytes(self._gathered))

    def refuse(self, status: int) -> None:
        """Take no more of the message on its way; this is its status at the end."""
        self.status = status
        self._gathered = bytearray()

    def forget(self) -> None:
        """Drop what is on its way: the association has ended, or its release was requested, which
        is the end of a data set that is not complete."""
        self._begun = self._sink = self.status = None
        self._gathered = bytearray()

    def _arrived(self, event: MessageReceived, data_set: bytes | None) -> Arrived:
        arrived = Arrived(event.context_id, event.message, data_set, self.status)
        self.forget()
        return arrived
