"""An SCU over blocking sockets: C-ECHO, then C-STORE of each file that is named.

    python examples/blocking_scu.py 127.0.0.1 11112 image.dcm --called ISOCENTER

The driver is `BlockingAssociation`: `_carry_out` does what the engine answers, `_receive` tells
it what happened.  Whatever there is to know of DICOM is in `isocenter.engine`.
"""

from __future__ import annotations

import math
import socket
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Self, TypeVar

from sending import arguments_of, data_set_parts, exit_code_of, file_meta, store_request, tell

from isocenter.engine import (
    VERIFICATION,
    AssociateRequest,
    Association,
    AssociationError,
    CEchoRequest,
    Clock,
    DeadlineExceeded,
    Deadlines,
    Effect,
    Moments,
    Negotiated,
    Role,
    Status,
    commands,
    context_for,
    effects,
    end_reason,
    events,
    is_request,
    is_response,
    next_deadline,
    refusal_of,
    response_to,
)

DEADLINES = Deadlines()
#: In bytes.
RECEIVE_LENGTH = 65_536

SomeEvent = TypeVar("SomeEvent", bound=events.Event)


class BlockingAssociation:
    """An association as requestor; its block establishes it and releases, or aborts, it."""

    def __init__(self, host: str, port: int, request: AssociateRequest) -> None:
        self._address = (host, port)
        self._request = request
        self._engine = Association(Role.REQUESTOR)
        self._sock: socket.socket | None = None
        self._events: deque[events.Event] = deque()
        self._moments = Moments()
        self._is_cut = False

    @property
    def negotiated(self) -> Negotiated:
        """What both sides agreed on."""
        assert self._engine.negotiated is not None
        return self._engine.negotiated

    # What the service-user asks for.

    def __enter__(self) -> Self:
        try:
            self._ask(commands.RequestAssociation(self._request))
            self._apply_effects(self._engine.transport_opened())
            self._wait_for(events.AssociationAccepted)
        except BaseException:
            self._finish()
            raise
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exception_type is None:
                if self._engine.allows(commands.RequestRelease()):
                    self._ask(commands.RequestRelease())
                self._wait_for(events.AssociationReleased)
        finally:
            self._finish()

    def echo(self) -> int:
        """C-ECHO: the status that the peer answers."""
        context = context_for(self.negotiated, VERIFICATION)
        request = CEchoRequest(
            message_id=self._engine.operations.next_message_id(),
            affected_sop_class_uid=context.abstract_syntax,
        )
        self._ask(commands.SendMessage(context.context_id, request))
        return self._status()

    def store(self, path: Path) -> int:
        """C-STORE of a Part 10 file, sent in parts as it is read: the status of the answer."""
        with path.open("rb") as file:
            meta = file_meta(file)
            context = context_for(
                self.negotiated, meta.media_storage_sop_class_uid, meta.transfer_syntax_uid
            )
            request = store_request(meta, self._engine.operations.next_message_id())
            self._ask(commands.SendMessage(context.context_id, request, has_data_set=True))
            for part, is_last in data_set_parts(file, meta):
                if self._is_cut:
                    break  # what is there to be received tells why
                self._ask(commands.SendDataSet(context.context_id, part, is_last))
        return self._status()

    def _ask(self, command: commands.Command) -> None:
        self._apply_effects(self._engine.send(command))
        self._moments.asked = monotonic()

    def _status(self) -> int:
        """Of the response to the one operation that is outstanding."""
        while True:
            message = self._wait_for(events.MessageReceived).message
            if is_response(message):
                return message.status

    def _wait_for(self, kind: type[SomeEvent]) -> SomeEvent:
        """The next event of this kind.

        Raises:
            AssociationError: the association ended first, or no answer came in time.
        """
        while True:
            while not self._events:
                if self._sock is None:
                    raise AssociationError("the peer released the association")
                self._receive()
            event = self._events.popleft()
            self._answer(event)
            if isinstance(event, kind):
                return event
            reason = end_reason(event)
            if reason is not None:
                raise reason

    def _answer(self, event: events.Event) -> None:
        """What the peer asks of us: nothing that we perform."""
        match event:
            case events.MessageReceived(context_id, message) if is_request(message):
                refusal = refusal_of(self.negotiated.contexts[context_id], message)
                status = refusal.status if refusal else Status.UNRECOGNIZED_OPERATION
                response = commands.SendMessage(context_id, response_to(message, status))
                self._send_if_allowed(response)
            case events.ReleaseRequested() | events.AssociationReleased():
                self._send_if_allowed(commands.AcceptRelease())

    def _send_if_allowed(self, command: commands.Command) -> None:
        """The engine may be further on than this event: more can have come in the same chunk."""
        if self._engine.allows(command):
            self._apply_effects(self._engine.send(command))

    def _finish(self) -> None:
        """From any state: A-ABORT where there still is an association, and close."""
        self._send_if_allowed(commands.Abort())
        while self._sock is not None:  # ARTIM runs
            self._receive()

    # The driver.

    def _apply_effects(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.OpenTransport():
                    self._sock = socket.create_connection(self._address, DEADLINES.connect)
                    self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                case effects.SendBytes(buffers):
                    self._write(b"".join(buffers))  # headers and data leave together
                case effects.CloseTransport():
                    self._close()
                case effects.StartArtim():
                    self._moments.artim = monotonic()
                case effects.StopArtim():
                    self._moments.artim = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case _:
                    self._events.append(effect)

    def _receive(self) -> None:
        """Wait until something happens, tell the engine, and carry out its answer."""
        assert self._sock is not None
        due, clock = next_deadline(self._engine, self._moments, DEADLINES)
        try:
            if due <= monotonic():
                raise TimeoutError
            self._sock.settimeout(due - monotonic() if due < math.inf else None)
            chunk = self._sock.recv(RECEIVE_LENGTH)
        except TimeoutError:
            if clock is not Clock.ARTIM:
                raise DeadlineExceeded(f"waited too long for {clock.value}") from None
            self._moments.artim = math.inf
            self._apply_effects(self._engine.timer_expired())
            return
        except OSError:
            chunk = b""  # reset by the peer
        self._moments.received = monotonic()
        if chunk:
            self._apply_effects(self._engine.receive_data(chunk))
        else:
            self._apply_effects(self._engine.transport_closed())
            self._close()

    def _write(self, data: bytes) -> None:
        """Write all of it; after a failure nothing more: half a PDU may have left."""
        if self._sock is None or self._is_cut:
            return
        try:
            self._sock.settimeout(DEADLINES.write_blocked)
            self._sock.sendall(data)
        except TimeoutError:
            self._is_cut = True
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # so that `_receive` finds the end
        except OSError:
            self._is_cut = True  # the peer's A-ABORT may still be there to be received

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def converse() -> bool:
    """C-ECHO and the C-STOREs over one association; whether the peer took everything."""
    arguments = arguments_of(__doc__)
    with BlockingAssociation(arguments.host, arguments.port, arguments.request) as association:
        took = [tell("C-ECHO", association.echo())]
        took += [tell(f"C-STORE {path}", association.store(path)) for path in arguments.files]
    return all(took)


def main() -> int:
    """What to exit with."""
    return exit_code_of(converse)


if __name__ == "__main__":
    sys.exit(main())
