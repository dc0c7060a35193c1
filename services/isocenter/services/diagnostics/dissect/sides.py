"""Sides of an association under dissection, each with an engine.

A `Side` is an `Association` that is told what a real peer did.  A `Stream` is what stands
in the bytes of one direction, judged by nobody.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from isocenter.engine import commands
from isocenter.engine.association import Association
from isocenter.engine.buffers import Buffer
from isocenter.engine.commands import Command
from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import CCancelRequest, Message, is_request
from isocenter.engine.effects import Effect
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.framing import Framer
from isocenter.engine.limits import Limits
from isocenter.engine.negotiation import Role
from isocenter.engine.pdv import MessageAssembler
from isocenter.engine.states import Sta
from isocenter.services.diagnostics import findings as diagnosis
from isocenter.services.diagnostics.findings import Finding

#: What is read of a stream whatever was announced: an observer is patient, yet bounded.
LENIENT: Final = Limits(max_pdu_length=0, command_set=1 << 20, empty_fragments=1_000_000)


def other(role: Role) -> Role:
    """The other side."""
    return Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR


def name_of(role: Role) -> str:
    """``association requestor`` or ``association acceptor``."""
    return f"association {role.name.lower()}"


class Side:
    """One side of the association, as far as the engine can be in its place."""

    def __init__(self, role: Role, limits: Limits) -> None:
        self.role = role
        self.association: Association | None = Association(role, limits)
        if role is Role.ACCEPTOR:
            self.association.transport_opened()
        #: An A-RELEASE-RQ that this side may not have read yet.
        self._held = b""

    @property
    def state(self) -> Sta | None:
        if self.association is None:
            return None
        # Said of what is held: it will be read before anything else happens here.
        return Sta.STA8 if self._held else self.association.state

    def transport_lost(self) -> None:
        """Follow this side no further."""
        self.association = None

    def submit(self, command: Command) -> tuple[Effect, ...]:
        """This side did what *command* asks for; what its engine says to what it held.

        Raises:
            ProtocolError: the engine would not have.
        """
        if self.association is None:
            return ()
        if isinstance(command, commands.RequestRelease):
            # Both asked for it at once: what is held was read only after this.
            self.association.send(command)
            return self.read()
        effects = self.read()
        self.association.send(command)
        if isinstance(command, commands.RequestAssociation):
            self.association.transport_opened()
        return effects

    def submit_message(self, context_id: int, message: Message) -> Finding | None:
        """This side sent a message; what was wrong with that."""
        if self.association is None or self.association.negotiated is None:
            return None
        operations = self.association.operations
        window = self.association.negotiated.operations_invoked
        # Held against it below, but an operation too many is one all the same.
        operations.window = 0
        is_over = is_request(message) and 0 < window <= len(operations.invoked)
        try:
            operations.send(context_id, message)
        except LocalProtocolError as error:
            text = f"the {name_of(self.role)} broke the protocol: {error}"
            if isinstance(message, CCancelRequest):
                return diagnosis.note(
                    f"{describe(message)} came after the final response; they may have crossed",
                    "PS3.7 9.3.2.3",
                )
            return diagnosis.error(text, diagnosis.clause_in(text))
        if is_over:
            return diagnosis.error(
                f"the {name_of(self.role)} has {len(operations.invoked)} operations outstanding; "
                f"the asynchronous operations window allows {window}",
                "PS3.7 D.3.3.3",
                "negotiate a larger window, or wait for responses",
            )
        return None

    def receive(self, data: Buffer, *, may_cross: bool = False) -> tuple[Effect, ...]:
        """Bytes for this side; what its engine makes of them."""
        if self.association is None or not len(data):
            return ()
        if may_cross and self.association.state is Sta.STA6:
            # An A-RELEASE-RQ of its own may be on its way already (PS3.8 7.2.2.7).
            self._held = bytes(data)
            return ()
        return self.read() + self.association.receive_data(data)

    def read(self) -> tuple[Effect, ...]:
        """Have what was held read."""
        held, self._held = self._held, b""
        if not held or self.association is None:
            return ()
        return self.association.receive_data(held)

    def close(self) -> tuple[Effect, ...]:
        """The connection is gone."""
        if self.association is None:
            return ()
        return self.read() + self.association.transport_closed()


@dataclass(slots=True)
class DataSet:
    """The data set that is on its way."""

    context_id: int
    message: Message
    length: int = 0
    largest: int = 0
    #: None: not kept, as it is an object, or longer than any identifier.
    gathered: bytearray | None = None
    is_whole: bool = True


@dataclass(slots=True)
class Stream:
    """What one side sends."""

    framer: Framer = field(default_factory=lambda: Framer(LENIENT))
    assembler: MessageAssembler = field(default_factory=lambda: MessageAssembler(LENIENT))
    #: Bytes before the current chunk, and up to where they were cut.
    start: int = 0
    position: int = 0
    #: Bytes of the current PDV still to come, and whether they are of a data set.
    left: int = 0
    is_data: bool = False
    #: Whether they are of a message that could not be understood.
    is_skipping: bool = False
    data_set: DataSet | None = None
    #: Of the current P-DATA-TF.
    pdu_length: int = 0
    is_lost: bool = False
    unread: int = 0
    last_heard: float = 0.0
