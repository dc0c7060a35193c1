"""Other people's conversations, read by the engine: an observer of both directions.

Each side of an association is played by an `Association` of its own.  What one side sends
is *received* by the other's engine as bytes, and at the same moment *asked for* at its own
engine as the command that would have sent it: an indication here is a request there.  So
both run through PS3.8 Table 9-10, negotiate and keep their operations exactly as the
server's engine does, and what they object to is what went wrong.  There is no second
parser; `Framer` and `MessageAssembler` are used once more to see what stands on a line.

Where a real peer goes on although the engine in its place would have aborted, that side is
followed no further: its state is unknown (None), and what it sends is shown unjudged.

Nothing here reads files; see `isocenter.services.captured` for what comes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, assert_never

from isocenter.engine import commands, pdu
from isocenter.engine.association import Association
from isocenter.engine.commands import Command
from isocenter.engine.describe import describe
from isocenter.engine.dimse.fragments import MessageAssembler
from isocenter.engine.dimse.messages import (
    CCancelRequest,
    CStoreRequest,
    Message,
    UnrecognizedMessage,
    is_request,
)
from isocenter.engine.effects import Effect, PeerFault
from isocenter.engine.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from isocenter.engine.events import (
    AssociationRejected,
    CancelReceived,
    DataSetReceived,
    MessageReceived,
    ProviderAborted,
)
from isocenter.engine.framing import ControlPdu, DataHeader, Fragment, Framer
from isocenter.engine.items import Buffer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import PresentationContext, Role, established
from isocenter.engine.states import Sta
from isocenter.services import diagnosis
from isocenter.services.diagnosis import Finding
from isocenter.services.shown import show_context, show_data_set, show_result, uid_name

#: What is read of a stream whatever was announced: an observer is patient, yet bounded.
_LENIENT: Final = Limits(max_pdu_length=0, command_set=1 << 20, empty_fragments=1_000_000)
#: Missing bytes of a data set are stood in for by pieces of this size.
_STAND_IN: Final = bytes(64 << 10)
#: A side that was silent for longer, in seconds, when the association broke is worth a word.
_SILENCE_SECONDS: Final = 1.0
#: Operations without an answer that are named.
_NAMED_OPERATIONS: Final = 10
_OVER: Final = (pdu.AssociateReject, pdu.ReleaseResponse, pdu.Abort)


class Kind(Enum):
    """What a line is about."""

    CONNECTION = "connection"
    PDU = "pdu"
    PDV = "pdv"
    MESSAGE = "message"
    DATA_SET = "data set"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened.

    Attributes:
        time: seconds since the connection was opened.
        sender: whose PDU, message or data set it is; None for the connection itself.
        text: one line, without PHI.
        requestor: the association requestor's state afterwards; None: unknown.
        acceptor: the association acceptor's.
        details: further lines; they hold attribute values only where that was asked for.
        findings: what was wrong with it.
    """

    time: float
    sender: Role | None
    kind: Kind
    text: str
    requestor: Sta | None
    acceptor: Sta | None
    details: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class _End:
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

    def lose(self) -> None:
        """Follow this side no further."""
        self.association = None

    def ask(self, command: Command) -> None:
        """This side did something that *command* would do.

        Raises:
            ProtocolError: the engine would not have.
        """
        if self.association is None:
            return
        if isinstance(command, commands.RequestRelease):
            # Both may have asked for it at once: what is held was read only after this.
            self.association.send(command)
            self.read()
            return
        self.read()
        self.association.send(command)
        if isinstance(command, commands.RequestAssociation):
            self.association.transport_opened()

    def ask_message(self, context_id: int, message: Message) -> Finding | None:
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
            text = f"the {_name(self.role)} broke the protocol: {error}"
            if isinstance(message, CCancelRequest):
                return diagnosis.note(
                    f"{describe(message)} came after the final response; they may have crossed",
                    "PS3.7 9.3.2.3",
                )
            return diagnosis.error(text, diagnosis.clause_in(text))
        if is_over:
            return diagnosis.error(
                f"the {_name(self.role)} has {len(operations.invoked)} operations outstanding; "
                f"the asynchronous operations window allows {window}",
                "PS3.7 D.3.3.3",
                "negotiate a larger window, or wait for responses",
            )
        return None

    def receive(self, data: Buffer, *, is_release: bool = False) -> tuple[Effect, ...]:
        """Bytes for this side; what its engine makes of them."""
        if self.association is None or not len(data):
            return ()
        if is_release and self.association.state is Sta.STA6:
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
class _DataSet:
    """The data set that is on its way."""

    context_id: int
    message: Message
    length: int = 0
    largest: int = 0
    #: None: not kept, as it is an object, or longer than any identifier.
    gathered: bytearray | None = None
    is_whole: bool = True


@dataclass(slots=True)
class _Stream:
    """What one side sends."""

    framer: Framer = field(default_factory=lambda: Framer(_LENIENT))
    assembler: MessageAssembler = field(default_factory=lambda: MessageAssembler(_LENIENT))
    #: Bytes before the current chunk, and up to where they were cut.
    start: int = 0
    position: int = 0
    #: Bytes of the current PDV still to come, and whether they are of a data set.
    left: int = 0
    is_data: bool = False
    data_set: _DataSet | None = None
    #: Of the current P-DATA-TF.
    pdu_length: int = 0
    is_lost: bool = False
    unread: int = 0
    last_heard: float = 0.0


class Observer:
    """Reads one association from both sides; `observe` says what the bytes mean.

    Args:
        show_phi: put the values of identifiers into the details.
        show_pdvs: a line for each P-DATA-TF and PDV, too.

    The peers can send what they want: nothing raises.  Held are two engines, one identifier
    for each direction and what is outstanding.
    """

    def __init__(
        self,
        *,
        show_phi: bool = False,
        show_pdvs: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._show_phi = show_phi
        self._show_pdvs = show_pdvs
        self._limits = limits
        self._ends = {role: _End(role, limits) for role in Role}
        self._streams = {role: _Stream() for role in Role}
        self._request: pdu.AssociateRequest | None = None
        self._contexts: dict[int, PresentationContext] = {}
        self._is_over = False
        self._is_closed = False

    def observe(self, sender: Role, data: Buffer, time: float = 0.0) -> list[Line]:
        """What *sender* sent next, in any chunks."""
        stream = self._streams[sender]
        stream.last_heard = time
        if stream.is_lost:
            stream.unread += len(data)
            return []
        lines: list[Line] = []
        view = memoryview(data)
        delivered = 0
        findings: list[Finding] = []
        try:
            for cut in stream.framer.feed(view):
                lines_of_cut, is_release = self._read_cut(sender, cut, time, findings)
                # Up to here: chunks never change what the engine makes of them.
                upto = stream.position - stream.start
                if lines_of_cut or upto == len(view):
                    faults = self._deliver(sender, view[delivered:upto], is_release=is_release)
                    delivered = upto
                    lines += self._finished(lines_of_cut, faults or findings, sender, time)
                    findings.clear()
        except RemoteProtocolError as fault:
            stream.is_lost = True
            stream.unread = len(view) - delivered
            faults = self._deliver(sender, view[delivered:])
            delivered = len(view)
            self._ends[sender].lose()
            lost = self._line(Kind.CONNECTION, "cannot be read any further", time, sender)
            lines += self._finished(
                [lost], faults or [diagnosis.of_fault(fault, _name(sender))], sender, time
            )
        else:
            faults = self._deliver(sender, view[delivered:])
            lines += self._finished([], faults or findings, sender, time)
        stream.start += len(view)
        return lines

    def missing(self, sender: Role, count: int, time: float = 0.0) -> list[Line]:
        """*count* bytes of *sender* went over the connection and are not in the capture."""
        stream = self._streams[sender]
        text = f"{count} bytes of the {_name(sender)} are missing from the capture"
        cure = "capture with full packets (-s 0) and a larger buffer (-B), or at the server itself"
        finding = diagnosis.warning(text, cure=cure)
        if stream.is_lost:
            stream.unread += count
            return []
        if not stream.is_data or count > stream.left:
            # Within headers or a command set: nobody can tell what follows.
            stream.is_lost = True
            for end in self._ends.values():
                end.lose()
            text += "; it cannot be read any further"
        line = self._line(Kind.CONNECTION, text, time, sender)
        lines = self._finished([line], [finding], sender, time)
        if not stream.is_lost:
            if stream.data_set is not None:
                stream.data_set.is_whole = False
            while count:
                piece = _STAND_IN[:count]
                count -= len(piece)
                lines += self.observe(sender, piece, time)
        return lines

    def closed(self, by: Role, time: float = 0.0, *, was_reset: bool = False) -> list[Line]:
        """One side closed the connection."""
        if self._is_closed:
            return []
        self._is_closed = True
        before = {role: end.state for role, end in self._ends.items()}
        other = _other(by)
        effects = self._ends[other].close()
        self._ends[by].close()
        is_lost = any(
            isinstance(effect, ProviderAborted) and effect.transport_lost for effect in effects
        )
        if before[other] is None:
            is_lost = not self._is_over
        text = f"the {_name(by)} {'reset' if was_reset else 'closed'} the connection"
        findings = []
        if is_lost:
            findings = self._loss(by, before, time)
        return self._finished([self._line(Kind.CONNECTION, text, time, None)], findings, by, time)

    def ended(self, time: float = 0.0) -> list[Line]:
        """There is no more; what was left open."""
        lines: list[Line] = []
        findings: list[Finding] = []
        for end in self._ends.values():
            findings += self._faults(end.read(), _other(end.role))
        for role, stream in self._streams.items():
            if stream.data_set is not None:
                findings.append(
                    diagnosis.warning(
                        f"the data set of {_short(stream.data_set.message)} ends after "
                        f"{stream.data_set.length} bytes, before its last fragment",
                        "PS3.8 E.2",
                    )
                )
            if stream.unread:
                findings.append(
                    diagnosis.note(f"{stream.unread} bytes of the {_name(role)} were not read")
                )
            findings += self._unanswered(role)
        if not self._is_closed and not self._is_over:
            findings.append(
                diagnosis.note(
                    "the capture ends before the association does",
                    cure="capture for longer to see its end",
                )
            )
        if findings:
            lines.append(self._line(Kind.CONNECTION, "the end", time, None))
        return self._finished(lines, findings, Role.REQUESTOR, time)

    # What stands on the lines.

    def _read_cut(
        self,
        sender: Role,
        cut: ControlPdu | DataHeader | Fragment,
        time: float,
        findings: list[Finding],
    ) -> tuple[list[Line], bool]:
        stream = self._streams[sender]
        match cut:
            case ControlPdu(pdu_type, body):
                stream.position += _HEADER_LENGTH + len(body)
                try:
                    received = pdu.decode_pdu(pdu_type, body, _LENIENT)
                except RemoteProtocolError as fault:
                    self._ends[sender].lose()
                    findings.append(diagnosis.of_fault(fault, _name(sender)))
                    text = f"{pdu_type} that cannot be decoded"
                    return [self._line(Kind.PDU, text, time, sender)], False
                return (
                    [self._control(sender, received, time, findings)],
                    isinstance(received, pdu.ReleaseRequest),
                )
            case DataHeader(length):
                stream.position += _HEADER_LENGTH
                stream.pdu_length = length
                text = f"P-DATA-TF of {length} bytes"
                return self._only_pdvs(self._line(Kind.PDU, text, time, sender)), False
            case Fragment():
                return self._fragment(sender, cut, time, findings), False
            case _:
                assert_never(cut)

    def _fragment(
        self, sender: Role, cut: Fragment, time: float, findings: list[Finding]
    ) -> list[Line]:
        stream = self._streams[sender]
        lines: list[Line] = []
        if not stream.left:
            stream.position += _HEADER_LENGTH
            kind = "command" if cut.is_command else "data set"
            length = len(cut.data) + cut.remaining
            text = f"PDV on context {cut.context_id}, {kind}, {length} bytes"
            lines += self._only_pdvs(self._line(Kind.PDV, text, time, sender))
        stream.position += len(cut.data)
        stream.left, stream.is_data = cut.remaining, not cut.is_command
        try:
            event = stream.assembler.receive(cut)
        except RemoteProtocolError as fault:
            stream.assembler = MessageAssembler(_LENIENT)
            stream.data_set = None
            findings.append(diagnosis.of_fault(fault, _name(sender)))
            return [*lines, self._line(Kind.MESSAGE, "cannot be read as a message", time, sender)]
        match event:
            case None:
                return lines
            case DataSetReceived(_, data, is_last):
                return lines + self._data(sender, data, is_last, time)
            case CancelReceived(context_id, message):
                return [*lines, self._message(sender, context_id, message, False, time, findings)]
            case MessageReceived(context_id, message, has_data_set):
                return [
                    *lines,
                    self._message(sender, context_id, message, has_data_set, time, findings),
                ]
            case _:
                assert_never(event)

    def _message(
        self,
        sender: Role,
        context_id: int,
        message: Message,
        has_data_set: bool,
        time: float,
        findings: list[Finding],
    ) -> Line:
        stream = self._streams[sender]
        if has_data_set:
            stream.data_set = _DataSet(context_id, message)
            if not isinstance(message, CStoreRequest):
                stream.data_set.gathered = bytearray()
        found = self._ends[sender].ask_message(context_id, message)
        if found is not None:
            findings.append(found)
        text = describe(message)
        if isinstance(message, UnrecognizedMessage):
            findings.append(diagnosis.error(text, "PS3.7 Annex C"))
        elif not is_request(message) and not isinstance(message, CCancelRequest):
            of_status = diagnosis.of_status(message.status, text)
            findings += [of_status] if of_status is not None else []
        tail = ", data set follows" if has_data_set else ""
        return self._line(Kind.MESSAGE, f"{text}; context {context_id}{tail}", time, sender)

    def _data(self, sender: Role, data: memoryview, is_last: bool, time: float) -> list[Line]:
        stream = self._streams[sender]
        data_set = stream.data_set
        if data_set is None:
            return []
        data_set.length += len(data)
        data_set.largest = max(data_set.largest, stream.pdu_length)
        if data_set.gathered is not None:
            data_set.gathered += data
            if len(data_set.gathered) > self._limits.identifier:
                data_set.gathered = None
        if not is_last:
            return []
        stream.data_set = None
        context = self._contexts.get(data_set.context_id)
        syntax = f", {uid_name(context.transfer_syntax)}" if context is not None else ""
        text = (
            f"data set of {_short(data_set.message)}: {data_set.length} bytes{syntax}, in "
            f"P-DATA-TFs of up to {data_set.largest}"
        )
        if not data_set.is_whole:
            text += ", with holes in the capture"
        details: tuple[str, ...] = ()
        if data_set.gathered is not None and context is not None and data_set.is_whole:
            details = show_data_set(
                bytes(data_set.gathered), context.transfer_syntax, with_values=self._show_phi
            )
        return [self._line(Kind.DATA_SET, text, time, sender, details)]

    def _control(
        self, sender: Role, received: pdu.Pdu, time: float, findings: list[Finding]
    ) -> Line:
        refused = self._ask(sender, _command_of(received))
        details: tuple[str, ...] = ()
        match received:
            case pdu.AssociateRequest():
                self._request = received
                details = tuple(map(show_context, received.presentation_contexts))
            case pdu.AssociateAccept():
                details = self._accepted(received, findings)
            case pdu.AssociateReject():
                findings.append(diagnosis.of_reject(received))
            case pdu.Abort():
                findings.append(diagnosis.of_abort(received, _name(sender)))
                findings += self._silence(_other(sender), time)
            case pdu.ReleaseRequest() | pdu.ReleaseResponse():
                pass
            case _:
                assert_never(received)
        if refused is not None:
            findings.append(refused)
        self._is_over = self._is_over or isinstance(received, _OVER)
        return self._line(Kind.PDU, describe(received), time, sender, details)

    def _accepted(
        self, accept: pdu.AssociateAccept, findings: list[Finding]
    ) -> tuple[str, ...]:
        request = self._request
        if request is None:
            return ()
        proposed = {context.context_id: context for context in request.presentation_contexts}
        try:
            negotiated = established(request, accept, Role.REQUESTOR)
            self._contexts = dict(negotiated.contexts)
        except ProtocolError:
            pass  # the requestor's engine says so
        of_syntax: dict[str, int] = {}
        for result in accept.presentation_contexts:
            context = proposed.get(result.context_id)
            if context is not None and of_syntax.get(context.abstract_syntax) != 0:
                of_syntax[context.abstract_syntax] = result.result
        refused = {syntax: result for syntax, result in of_syntax.items() if result}
        findings += [
            diagnosis.of_context(uid_name(syntax), result) for syntax, result in refused.items()
        ]
        if len(refused) == len(of_syntax):
            findings.append(
                diagnosis.error(
                    "no presentation context was accepted: nothing can be done on this association",
                    "PS3.8 9.3.3.2",
                )
            )
        return tuple(
            show_result(result, proposed.get(result.context_id))
            for result in accept.presentation_contexts
        )

    def _ask(self, sender: Role, command: Command) -> Finding | None:
        end = self._ends[sender]
        before = end.state
        try:
            end.ask(command)
        except ProtocolError as error:
            ends = isinstance(command, commands.Abort | commands.RejectAssociation)
            if before in (Sta.STA1, Sta.STA13) and (ends or self._is_over):
                return None  # as its engine had done already; or both crossed
            end.lose()
            if before is Sta.STA13:
                return diagnosis.note(
                    f"the {_name(sender)} goes on where the standard asks for A-ABORT; its states "
                    "are not followed from here on"
                )
            text = f"the {_name(sender)} did what its state does not allow: {error}"
            return diagnosis.error(text, diagnosis.clause_in(text))
        return None

    # What the engines say.

    def _deliver(
        self, sender: Role, data: memoryview, *, is_release: bool = False
    ) -> list[Finding]:
        end = self._ends[_other(sender)]
        return self._faults(end.receive(data, is_release=is_release), sender)

    def _faults(self, effects: Sequence[Effect], sender: Role) -> list[Finding]:
        found = []
        for effect in effects:
            match effect:
                case ProviderAborted(cause=RemoteProtocolError() as cause) | PeerFault(cause):
                    found.append(diagnosis.of_fault(cause, _name(sender)))
                case AssociationRejected(reject, by_peer=False):
                    found.append(
                        diagnosis.warning(
                            f"the {_name(sender)} asks for what DICOM has to reject: "
                            f"{describe(reject)}",
                            "PS3.8 7.1.1",
                        )
                    )
                case _:
                    pass
        return found

    def _loss(self, by: Role, before: dict[Role, Sta | None], time: float) -> list[Finding]:
        if before[_other(by)] is Sta.STA5:
            lost = diagnosis.error(
                f"the {_name(by)} closed instead of answering the A-ASSOCIATE-RQ",
                "PS3.8 Table 9-10",
                "does the port expect TLS, or another protocol? Does it refuse this address?",
            )
        else:
            lost = diagnosis.error(
                f"the {_name(by)} closed without A-RELEASE or A-ABORT",
                "PS3.8 Table 9-10",
                f"look for a crash or a time-out of the {_name(by)}, or a firewall between",
            )
        return [lost, *self._silence(_other(by), time)]

    def _silence(self, role: Role, time: float) -> list[Finding]:
        silent = time - self._streams[role].last_heard
        if silent < _SILENCE_SECONDS:
            return []
        return [
            diagnosis.note(
                f"nothing had come from the {_name(role)} for {silent:.1f} s",
                cure="a time-out? Compare it with those that are configured",
            )
        ]

    def _unanswered(self, invoker: Role) -> list[Finding]:
        ours, theirs = self._ends[invoker].association, self._ends[_other(invoker)].association
        if ours is not None:
            outstanding = ours.operations.invoked
        elif theirs is not None:
            outstanding = theirs.operations.performed
        else:
            return []
        found = [
            diagnosis.warning(f"{_short(each.request)} was never answered", "PS3.7 9.1")
            for each in list(outstanding.values())[:_NAMED_OPERATIONS]
        ]
        if len(outstanding) > _NAMED_OPERATIONS:
            more = len(outstanding) - _NAMED_OPERATIONS
            found.append(diagnosis.warning(f"nor were {more} more requests", "PS3.7 9.1"))
        return found

    # Lines.

    def _line(
        self,
        kind: Kind,
        text: str,
        time: float,
        sender: Role | None,
        details: tuple[str, ...] = (),
    ) -> Line:
        return Line(time, sender, kind, text, None, None, details)

    def _only_pdvs(self, line: Line) -> list[Line]:
        return [line] if self._show_pdvs else []

    def _finished(
        self, lines: Sequence[Line], findings: Sequence[Finding], sender: Role, time: float
    ) -> list[Line]:
        """The lines with the states as they are now; the findings belong to the last."""
        if findings and not lines:
            lines = [self._line(Kind.PDU, "P-DATA-TF", time, sender)]
        requestor, acceptor = self._ends[Role.REQUESTOR].state, self._ends[Role.ACCEPTOR].state
        finished = []
        for number, line in enumerate(lines, 1):
            finished.append(
                Line(
                    line.time,
                    line.sender,
                    line.kind,
                    line.text,
                    requestor,
                    acceptor,
                    line.details,
                    tuple(findings) if number == len(lines) else (),
                )
            )
        return finished


#: A PDU's header, and a PDV's (PS3.8 9.3.1, 9.3.5.1, E.2).
_HEADER_LENGTH: Final = 6


def _command_of(received: pdu.Pdu) -> Command:
    """What the sender's service-user asked for, when this PDU left."""
    match received:
        case pdu.AssociateRequest():
            return commands.RequestAssociation(received)
        case pdu.AssociateAccept():
            return commands.AcceptAssociation(received)
        case pdu.AssociateReject():
            return commands.RejectAssociation(received)
        case pdu.ReleaseRequest():
            return commands.RequestRelease()
        case pdu.ReleaseResponse():
            return commands.AcceptRelease()
        case pdu.Abort():
            return commands.Abort()
        case _:
            assert_never(received)


def _other(role: Role) -> Role:
    return Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR


def _name(role: Role) -> str:
    return f"association {role.name.lower()}"


def _short(message: Message) -> str:
    """``C-STORE-RQ 7``."""
    return describe(message).partition(":")[0]
