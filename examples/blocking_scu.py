"""An SCU over blocking sockets: C-ECHO, then C-STORE of each file that is named.

    python examples/blocking_scu.py 127.0.0.1 11112 image.dcm --called ISOCENTER

The driver is `BlockingAssociation`: `_carry_out` does what the engine answers, `_receive` tells
it what happened.  Whatever there is to know of DICOM is in `isocenter.engine`.
"""

from __future__ import annotations

import argparse
import math
import socket
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Self, TypeVar

from isocenter.engine import commands, effects, events
from isocenter.engine.association import Association
from isocenter.engine.dataset import FILE_HEAD_LENGTH, FileMeta, read_file_meta
from isocenter.engine.dimse.messages import (
    CEchoRequest,
    CEchoResponse,
    CStoreRequest,
    CStoreResponse,
)
from isocenter.engine.dimse.status import StatusClass, classify, describe_status
from isocenter.engine.driving import associate_request, context_for, end_reason
from isocenter.engine.effects import Effect
from isocenter.engine.errors import AssociationError, IsocenterError
from isocenter.engine.negotiation import Negotiated, Role
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

#: In seconds.  ARTIM is the standard's: how long a peer may take to close after an A-ABORT.  The
#: others are ours: PS3.8 does not say how long to wait for a peer that is silent or takes nothing.
ARTIM_SECONDS = 5.0
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
WRITE_SECONDS = 30.0
#: In bytes.
RECEIVE_LENGTH = 65_536
PART_LENGTH = 262_144

SomeEvent = TypeVar("SomeEvent", bound=events.Event)


class BlockingAssociation:
    """An association as requestor; its block establishes it and releases, or aborts, it."""

    def __init__(self, host: str, port: int, request: AssociateRequest) -> None:
        self._address = (host, port)
        self._request = request
        self._engine = Association(Role.REQUESTOR)
        self._sock: socket.socket | None = None
        self._events: deque[events.Event] = deque()
        self._artim_ends = math.inf
        self._answer_due = math.inf
        self._is_cut = False
        self._last_message_id = 0

    @property
    def negotiated(self) -> Negotiated:
        """What both sides agreed on."""
        assert self._engine.negotiated is not None
        return self._engine.negotiated

    # What the service-user asks for.

    def __enter__(self) -> Self:
        try:
            self._carry_out(self._engine.send(commands.RequestAssociation(self._request)))
            self._carry_out(self._engine.transport_opened())
            self._wait_for(events.AssociationAccepted)
        except BaseException:
            self._finish()
            raise
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exception_type is None:
                if self._engine.state is Sta.STA6:
                    self._carry_out(self._engine.send(commands.RequestRelease()))
                self._wait_for(events.AssociationReleased)
        finally:
            self._finish()

    def echo(self) -> int:
        """C-ECHO: the status that the peer answers."""
        context = context_for(self.negotiated, VERIFICATION)
        request = CEchoRequest(
            message_id=self._message_id(), affected_sop_class_uid=context.abstract_syntax
        )
        self._carry_out(self._engine.send(commands.SendMessage(context.context_id, request)))
        return self._status_of(request.message_id)

    def store(self, path: Path) -> int:
        """C-STORE of a Part 10 file, sent in parts as it is read: the status of the answer."""
        with path.open("rb") as file:
            meta = file_meta(file)
            context = context_for(
                self.negotiated, meta.media_storage_sop_class_uid, meta.transfer_syntax_uid
            )
            request = CStoreRequest(
                message_id=self._message_id(),
                affected_sop_class_uid=meta.media_storage_sop_class_uid,
                affected_sop_instance_uid=meta.media_storage_sop_instance_uid,
            )
            message = commands.SendMessage(context.context_id, request, has_data_set=True)
            self._carry_out(self._engine.send(message))
            for part, is_last in data_set_parts(file, meta):
                if self._is_cut:
                    break  # what is there to be received tells why
                data = commands.SendDataSet(context.context_id, part, is_last)
                self._carry_out(self._engine.send(data))
        return self._status_of(request.message_id)

    def _message_id(self) -> int:
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        return self._last_message_id

    def _status_of(self, message_id: int) -> int:
        match self._wait_for(events.MessageReceived).message:
            case CEchoResponse() | CStoreResponse() as response if (
                response.message_id_being_responded_to == message_id
            ):
                return response.status
            case _:  # we perform nothing, and have asked for nothing else
                raise AssociationError("the peer sent a message that nobody waits for")

    def _wait_for(self, kind: type[SomeEvent]) -> SomeEvent:
        """The next event of this kind.

        Raises:
            AssociationError: the association ended first, or no answer came in time.
        """
        self._answer_due = monotonic() + ANSWER_SECONDS
        while True:
            while not self._events:
                if self._sock is None:
                    raise AssociationError("the peer released the association")
                self._receive()
            event = self._events.popleft()
            if isinstance(event, kind):
                return event
            reason = end_reason(event)
            if reason is not None:
                raise reason
            # The engine may be further on than this event: more can have come in the same chunk.
            if self._engine.state in (Sta.STA8, Sta.STA9) and not self._engine.is_sending_data_set:
                self._carry_out(self._engine.send(commands.AcceptRelease()))

    def _finish(self) -> None:
        """From any state: A-ABORT where there still is an association, and close."""
        self._answer_due = math.inf
        if self._engine.state not in (Sta.STA1, Sta.STA13):
            self._carry_out(self._engine.send(commands.Abort()))
        while self._sock is not None:  # ARTIM runs
            self._receive()

    # The driver.

    def _carry_out(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.OpenTransport():
                    self._sock = socket.create_connection(self._address, CONNECT_SECONDS)
                    self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                case effects.SendBytes(buffers):
                    self._write(b"".join(buffers))  # headers and data leave together
                case effects.CloseTransport():
                    self._close()
                case effects.StartArtim():
                    self._artim_ends = monotonic() + ARTIM_SECONDS
                case effects.StopArtim():
                    self._artim_ends = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case _:
                    self._events.append(effect)

    def _receive(self) -> None:
        """Wait until something happens, tell the engine, and carry out its answer."""
        assert self._sock is not None
        due = min(self._artim_ends, self._answer_due)
        try:
            if due <= monotonic():
                raise TimeoutError
            self._sock.settimeout(due - monotonic() if due < math.inf else None)
            chunk = self._sock.recv(RECEIVE_LENGTH)
        except TimeoutError:
            if due < self._artim_ends:
                raise AssociationError(f"no answer within {ANSWER_SECONDS:g} s") from None
            self._artim_ends = math.inf
            self._carry_out(self._engine.timer_expired())
            return
        except OSError:
            chunk = b""  # reset by the peer
        if chunk:
            self._carry_out(self._engine.receive_data(chunk))
        else:
            self._carry_out(self._engine.transport_closed())
            self._close()

    def _write(self, data: bytes) -> None:
        """Write all of it; after a failure nothing more: half a PDU may have left."""
        if self._sock is None or self._is_cut:
            return
        try:
            self._sock.settimeout(WRITE_SECONDS)
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


def file_meta(file: BinaryIO) -> FileMeta:
    """The File Meta Information of a Part 10 file."""
    return read_file_meta(file.read(FILE_HEAD_LENGTH))


def data_set_parts(file: BinaryIO, meta: FileMeta) -> Iterator[tuple[bytes, bool]]:
    """What stands behind the File Meta Information: parts, and whether each is the last."""
    file.seek(meta.data_set_offset)
    part = file.read(PART_LENGTH)
    while ahead := file.read(PART_LENGTH):
        yield part, False
        part = ahead
    yield part, True


def proposals(paths: Iterable[Path]) -> list[tuple[str, list[str]]]:
    """The presentation contexts that C-ECHO and these files need, each once."""
    found = {(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN): None}
    for path in paths:
        with path.open("rb") as file:
            meta = file_meta(file)
        found[meta.media_storage_sop_class_uid, meta.transfer_syntax_uid] = None
    return [(abstract_syntax, [syntax]) for abstract_syntax, syntax in found]


def main() -> int:
    """0 when the peer took everything, with or without a warning; else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--called", default="ANY-SCP", help="AE title of the peer")
    parser.add_argument("--calling", default="EXAMPLE", help="AE title of ours")
    arguments = parser.parse_args()
    failed = False
    try:
        request = associate_request(arguments.called, arguments.calling, proposals(arguments.files))
        with BlockingAssociation(arguments.host, arguments.port, request) as association:
            status = association.echo()
            print(f"C-ECHO: {status:04X}H {describe_status(status)}")
            failed |= classify(status) is StatusClass.FAILURE
            for path in arguments.files:
                status = association.store(path)
                print(f"C-STORE {path}: {status:04X}H {describe_status(status)}")
                failed |= classify(status) is StatusClass.FAILURE
    except (IsocenterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
