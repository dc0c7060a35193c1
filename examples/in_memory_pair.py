"""Two engines and the bytes between them: no socket, no thread, no clock but one moved by hand.

    python examples/in_memory_pair.py --chunk 7

A requestor associates, asks for a C-ECHO and a C-STORE, and releases.  What each side hears is
printed, and is the same however the bytes are cut.  `Pair` is all that a test or a simulator
needs: it also cuts the wire after any byte, and lets time pass.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from isocenter.engine import commands, effects, events
from isocenter.engine.association import Association
from isocenter.engine.commands import Command
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CEchoResponse,
    CStoreRequest,
    CStoreResponse,
    is_request,
    response_to,
)
from isocenter.engine.dimse.status import Status, describe_status
from isocenter.engine.effects import Effect
from isocenter.engine.incoming import Arrived, Incoming
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    Acceptor,
    Offer,
    Role,
    associate_request,
    context_for,
    negotiate,
)
from isocenter.engine.pdu import AssociateReject
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SOP_INSTANCE = "2.25.1"
#: Pixel Data (7FE0,0010), 64 KiB of it, in implicit VR little endian.
DATA_SET = bytes.fromhex("e07f1000") + (1 << 16).to_bytes(4, "little") + bytes(1 << 16)
ARTIM_SECONDS = 5.0


@dataclass(slots=True)
class End:
    """One side of the wire.

    Attributes:
        user: the service-user: what it answers to an event.
        arriving: bytes that the other side has sent and this one has not received.
        heard: the events in words, the fragments of a data set as one.
        artim_ends: the time at which ARTIM runs out; infinite while it is stopped.
    """

    engine: Association
    user: Callable[[Association, events.Event], Command | None]
    arriving: bytearray = field(default_factory=bytearray)
    heard: list[str] = field(default_factory=list)
    artim_ends: float = math.inf
    is_open: bool = False
    data_set_length: int = 0


class Pair:
    """A requestor, an acceptor, the wire and the clock between them.

    Args:
        requestor, acceptor: the service-users.
        chunk: how many bytes arrive at once; 0 for all that are on their way.
    """

    def __init__(
        self,
        requestor: Callable[[Association, events.Event], Command | None],
        acceptor: Callable[[Association, events.Event], Command | None],
        chunk: int = 0,
    ) -> None:
        self.requestor = End(Association(Role.REQUESTOR), requestor)
        self.acceptor = End(Association(Role.ACCEPTOR), acceptor)
        self.now = 0.0
        self._chunk = chunk

    @property
    def ends(self) -> tuple[End, End]:
        """Both sides."""
        return self.requestor, self.acceptor

    def send(self, end: End, command: Command) -> None:
        """What the service-user of *end* asks for; nothing arrives before `step`."""
        self._apply_effects(end, end.engine.send(command))
        if end.engine.state is Sta.STA4:  # the other side hears of the connection first
            for side in (self.acceptor, self.requestor):
                side.is_open = True
                self._apply_effects(side, side.engine.transport_opened())

    def step(self) -> bool:
        """Let one chunk, or the end of the stream, arrive somewhere; False if there is none."""
        for end, other in (self.ends, self.ends[::-1]):
            if not end.is_open:
                continue
            if end.arriving:
                length = self._chunk or len(end.arriving)
                chunk = bytes(end.arriving[:length])
                del end.arriving[:length]
                self._apply_effects(end, end.engine.receive_data(chunk))
                return True
            if not other.is_open:
                self._lose(end)
                return True
        return False

    def run(self) -> None:
        """Until nothing is on its way any more."""
        while self.step():
            pass

    def cut(self) -> None:
        """The connection breaks; what was on its way is lost."""
        for end in self.ends:
            if end.is_open:
                self._lose(end)

    def let_time_pass(self, seconds: float) -> None:
        """Move the clock; an ARTIM that runs out is told, and what follows from it happens."""
        self.now += seconds
        for end in self.ends:
            if end.artim_ends <= self.now:
                end.artim_ends = math.inf
                self._apply_effects(end, end.engine.timer_expired())
        self.run()

    def _lose(self, end: End) -> None:
        end.is_open = False
        end.arriving.clear()
        self._apply_effects(end, end.engine.transport_closed())

    def _apply_effects(self, end: End, answer: Iterable[Effect]) -> None:
        other = self.acceptor if end is self.requestor else self.requestor
        for effect in answer:
            match effect:
                case effects.OpenTransport():
                    pass  # `send` does it
                case effects.SendBytes(buffers):
                    if other.is_open:
                        other.arriving += b"".join(buffers)
                case effects.CloseTransport():
                    end.is_open = False
                    end.arriving.clear()
                case effects.StartArtim():
                    end.artim_ends = self.now + ARTIM_SECONDS
                case effects.StopArtim():
                    end.artim_ends = math.inf
                case effects.PeerFault(cause):
                    end.heard.append(f"PeerFault: {cause}")
                case event:
                    self._tell(end, event)

    def _tell(self, end: End, event: events.Event) -> None:
        if isinstance(event, events.DataSetReceived):
            end.data_set_length += len(event.data)
            if event.is_last:
                end.heard.append(f"DataSetReceived: {end.data_set_length} bytes")
                end.data_set_length = 0
        else:
            end.heard.append(in_words(event))
        command = end.user(end.engine, event)
        # What came behind the event in the same chunk may have ended the association.
        if command is not None and end.engine.allows(command):
            self.send(end, command)


def in_words(event: events.Event) -> str:
    """The event's name, and what it carries where that is short."""
    name = type(event).__name__
    match event:
        case events.MessageReceived(_, CEchoResponse() | CStoreResponse() as message):
            return f"{name}: {type(message).__name__} {describe_status(message.status)}"
        case events.MessageReceived(_, message):
            return f"{name}: {type(message).__name__}"
        case events.ProviderAborted(_, cause, transport_lost):
            return f"{name}: {'transport lost' if transport_lost else cause}"
        case _:
            return name


def requestor(engine: Association, event: events.Event) -> Command | None:
    """Asks for a C-ECHO, then a C-STORE, then to be released."""
    match event:
        case events.AssociationAccepted(_, negotiated):
            context = context_for(negotiated, VERIFICATION)
            echo = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
            return commands.SendMessage(context.context_id, echo)
        case events.MessageReceived(_, CEchoResponse()):
            assert engine.negotiated is not None
            context = context_for(engine.negotiated, CT_IMAGE_STORAGE)
            store = CStoreRequest(
                message_id=2,
                affected_sop_class_uid=CT_IMAGE_STORAGE,
                affected_sop_instance_uid=SOP_INSTANCE,
            )
            return commands.SendMessage(context.context_id, store, DATA_SET)
        case events.MessageReceived(_, CStoreResponse()):
            return commands.RequestRelease()
        case _:
            return None


class StoringAcceptor:
    """Answers every request when it is whole: C-ECHO at once, C-STORE after its data set."""

    def __init__(self) -> None:
        self._incoming = Incoming()

    def __call__(self, engine: Association, event: events.Event) -> Command | None:
        match event:
            case events.AssociationRequested(request):
                answer = negotiate(request, ACCEPTOR)
                if isinstance(answer, AssociateReject):
                    return commands.RejectAssociation(answer)
                return commands.AcceptAssociation(answer)
            case events.MessageReceived():
                return self._answer(self._incoming.begin(event, lambda _: None))
            case events.DataSetReceived():
                return self._answer(self._incoming.add(event))
            case events.ReleaseRequested():
                return commands.AcceptRelease()
            case _:
                return None

    def _answer(self, arrived: Arrived | None) -> Command | None:
        if arrived is None or not is_request(arrived.message):
            return None
        response = response_to(arrived.message, Status.SUCCESS)
        return commands.SendMessage(arrived.context_id, response)


OFFER = Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,))
ACCEPTOR = Acceptor(
    offer={VERIFICATION: OFFER, CT_IMAGE_STORAGE: OFFER}.get,
    max_pdu_length=DEFAULT_LIMITS.max_pdu_length,
)
REQUEST = associate_request(
    "ACCEPTOR",
    "REQUESTOR",
    [(uid, [IMPLICIT_VR_LITTLE_ENDIAN]) for uid in (VERIFICATION, CT_IMAGE_STORAGE)],
)


def begin(chunk: int = 0) -> Pair:
    """A pair whose requestor has just asked for the association."""
    pair = Pair(requestor, StoringAcceptor(), chunk)
    pair.send(pair.requestor, commands.RequestAssociation(REQUEST))
    return pair


def main() -> None:
    """Print the conversation as each side heard it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chunk", type=int, default=0, help="bytes that arrive at once; 0: all")
    pair = begin(parser.parse_args().chunk)
    pair.run()
    for end in pair.ends:
        sys.stdout.write(f"{end.engine.role.value}, at the end in {end.engine.state}\n")
        sys.stdout.writelines(f"    {line}\n" for line in end.heard)


if __name__ == "__main__":
    main()
