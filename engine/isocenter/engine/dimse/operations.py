"""Outstanding operations of an association, both ways (PS3.7 9.1, 10.1).

An operation begins with its request and is outstanding until its final response.
Between the two lie the same few steps whichever side looks at it:

    ============  =============  ===============
                  outstanding    cancelled
    ============  =============  ===============
    pending       outstanding    cancelled
    C-CANCEL-RQ   cancelled      cancelled
    final         (ended)        (ended)
    ============  =============  ===============

Only C-FIND, C-GET and C-MOVE have the first two rows.  `Operations` holds one such
state for each Message ID and direction, and knows what is right to send and to
receive; notifications (N-EVENT-REPORT) count like operations (PS3.7 D.3.3.3).

What we do wrong raises `LocalProtocolError` and changes nothing.  What the peer
does wrong has these answers:

* a request whose Message ID is taken: answered with 0210H, duplicate invocation;
  what holds the ID goes on;
* a response to nothing outstanding, of another kind than its request, or on another
  presentation context: A-ABORT, as nobody can know what it is about;
* a C-CANCEL-RQ for what is not outstanding, or cannot be cancelled: ignored, since the
  final response may have crossed it; a second final response to it is ignored too;
* more requests than the negotiated window: handed up; the driver reads on when there
  is room, so the peer waits in its socket.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from isocenter.engine.dimse.message_codec import sop_class_of
from isocenter.engine.dimse.message_fields import MESSAGES, NAMES, RESPONSES
from isocenter.engine.dimse.messages import (
    CCancelRequest,
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    Message,
    PerformableRequest,
    PerformedResponse,
    Request,
    Response,
    UnrecognizedMessage,
)
from isocenter.engine.dimse.status import Status, is_final
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)

#: Those with pending responses and C-CANCEL (PS3.7 9.1.2 to 9.1.4).
CANCELLABLE: Final = frozenset({CFindRequest, CGetRequest, CMoveRequest})
_LAST_MESSAGE_ID: Final = 0xFFFF
_COMMAND_FIELDS: Final = {rule.message_class: rule.command_field for rule in MESSAGES}


class Outstanding(NamedTuple):
    """An operation between its request and its final response."""

    context_id: int
    #: Of the request; its values are not held: nobody may answer 65,536 of them.
    kind: type[Request]
    is_cancelled: bool = False


class Operations:
    """The operations under way on one association.

    Attributes:
        invoked: ours, by Message ID.
        performed: the peer's, by Message ID.
        window: how many of ours may be outstanding at once; 0 for no limit (PS3.7 D.3.3.3).

    Both maps are for looking at; `Association` keeps them.
    """

    __slots__ = (
        "_cancelled_late",
        "_last_message_id",
        "_reserved",
        "invoked",
        "performed",
        "window",
    )

    def __init__(self, window: int = 1) -> None:
        self.invoked: dict[int, Outstanding] = {}
        self.performed: dict[int, Outstanding] = {}
        self.window = window
        self._reserved: set[int] = set()
        self._last_message_id = 0
        self._cancelled_late: int | None = None

    @property
    def is_window_full(self) -> bool:
        """Whether one of ours has to end before the next may begin."""
        return 0 < self.window <= len(self.invoked) + len(self._reserved)

    def next_message_id(self) -> int:
        """A Message ID that no outstanding operation of ours has: 1 to 65535, in turn.

        Raises:
            LocalProtocolError: all are taken.
        """
        message_id = self._last_message_id
        for _ in range(_LAST_MESSAGE_ID):
            message_id = message_id % _LAST_MESSAGE_ID + 1
            if message_id not in self.invoked and message_id not in self._reserved:
                self._last_message_id = message_id
                return message_id
        raise LocalProtocolError("all Message IDs are outstanding (PS3.7 9.1)")

    def reserve(self, message_id: int) -> None:
        """Keep a place in the window, until the request of this Message ID is sent or `give_up`.

        For several tasks: between finding room and sending, another may have sent.
        """
        if message_id not in self.invoked:
            self._reserved.add(message_id)

    def give_up(self, message_id: int) -> None:
        """The request that a place was kept for is not sent; nothing happens if it was."""
        self._reserved.discard(message_id)

    def check(self, context_id: int, message: Message) -> None:
        """What `send` would raise, without the change."""
        if isinstance(message, PerformableRequest):
            self._check_request(message)
        elif isinstance(message, PerformedResponse):
            self._answered(context_id, message)
        elif isinstance(message, CCancelRequest):
            self._cancelled(context_id, message)

    def send(self, context_id: int, message: Message) -> None:
        """Note a message of ours.

        Raises:
            LocalProtocolError: a request whose Message ID is taken or for which the window
                has no room; a response or C-CANCEL-RQ to nothing that asks for it.
        """
        if isinstance(message, PerformableRequest):
            self._check_request(message)
            message_id = message.message_id
            if self._reserved:
                self._reserved.discard(message_id)
            self.invoked[message_id] = Outstanding(context_id, type(message))
        elif isinstance(message, PerformedResponse):
            held = self._answered(context_id, message)
            if _ends(held, message.status):
                del self.performed[message.message_id_being_responded_to]
        elif isinstance(message, CCancelRequest):
            held = self._cancelled(context_id, message)
            message_id = message.message_id_being_responded_to
            self.invoked[message_id] = Outstanding(context_id, held.kind, is_cancelled=True)

    def receive(self, context_id: int, message: Message) -> Message | None:
        """Note a message of the peer.

        Returns:
            What to hand up: the message; `UnrecognizedMessage` when it is to be answered
            with a failure; None when it is ignored.

        Raises:
            RemoteProtocolError: it answers what was not asked (reason 6).
        """
        if isinstance(message, PerformableRequest):
            return self._receive_request(context_id, message)
        if isinstance(message, CCancelRequest):
            return self._receive_cancel(message)
        if not isinstance(message, PerformedResponse):
            return message
        kind = type(message)
        message_id = message.message_id_being_responded_to
        status = message.status
        held = self.invoked.get(message_id)
        if held is None:
            if message_id == self._cancelled_late and status == Status.CANCEL:
                self._cancelled_late = None
                return None
            raise _violation(f"{NAMES[kind]} to Message ID {message_id}, which is not outstanding")
        if RESPONSES[held.kind] is not kind:
            raise _violation(f"{NAMES[kind]} to a {NAMES[held.kind]}")
        if held.context_id != context_id:
            raise _violation(
                f"{NAMES[kind]} on presentation context {context_id}; its request went on "
                f"{held.context_id}"
            )
        if _ends(held, status):
            del self.invoked[message_id]
            self._cancelled_late = message_id if held.is_cancelled else None
        return message

    def _check_request(self, request: Request) -> None:
        message_id = request.message_id
        if message_id in self.invoked:
            raise LocalProtocolError(f"Message ID {message_id} is outstanding (PS3.7 9.1)")
        taken = len(self.invoked) + len(self._reserved)
        if 0 < self.window <= taken and message_id not in self._reserved:
            raise LocalProtocolError(
                f"{self.window} operations are outstanding, as many as were negotiated "
                "(PS3.7 D.3.3.3)"
            )

    def _cancelled(self, context_id: int, cancel: CCancelRequest) -> Outstanding:
        message_id = cancel.message_id_being_responded_to
        held = self.invoked.get(message_id)
        if held is None or held.kind not in CANCELLABLE or held.context_id != context_id:
            raise LocalProtocolError(
                f"C-CANCEL-RQ for Message ID {message_id}: nothing that can be cancelled is "
                "outstanding (PS3.7 9.3.2.3)"
            )
        return held

    def _answered(self, context_id: int, response: Response) -> Outstanding:
        kind = type(response)
        message_id = response.message_id_being_responded_to
        held = self.performed.get(message_id)
        if held is None or RESPONSES[held.kind] is not kind:
            raise LocalProtocolError(
                f"{NAMES[kind]} to Message ID {message_id}, which asks for none (PS3.7 9.1)"
            )
        if held.context_id != context_id:
            raise LocalProtocolError(
                f"{NAMES[kind]} on presentation context {context_id}; its request came on "
                f"{held.context_id}"
            )
        return held

    def _receive_request(self, context_id: int, request: Request) -> Message:
        message_id = request.message_id
        if message_id in self.performed:
            return _duplicate(request)
        self.performed[message_id] = Outstanding(context_id, type(request))
        return request

    def _receive_cancel(self, cancel: CCancelRequest) -> Message | None:
        message_id = cancel.message_id_being_responded_to
        held = self.performed.get(message_id)
        if held is None or held.kind not in CANCELLABLE:
            return None
        self.performed[message_id] = Outstanding(held.context_id, held.kind, is_cancelled=True)
        return cancel


def _ends(held: Outstanding, status: int) -> bool:
    return held.kind not in CANCELLABLE or is_final(status)


def _duplicate(request: Request) -> UnrecognizedMessage:
    return UnrecognizedMessage(
        command_field=_COMMAND_FIELDS[type(request)],
        message_id=request.message_id,
        status=Status.DUPLICATE_INVOCATION,
        error=f"Message ID {request.message_id} is outstanding",
        affected_sop_class_uid=sop_class_of(request),
    )


def _violation(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"{what} (PS3.7 9.1)", INVALID_PDU_PARAMETER_VALUE)
