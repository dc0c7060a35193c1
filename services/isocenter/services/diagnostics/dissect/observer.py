"""Observer of an association between two others: an engine for each side.

Each side of an association is played by an `Association` of its own.  What one side sends
is *received* by the other's engine as bytes, and at the same moment *asked for* at its own
engine as the command that would have sent it: an indication here is a request there.  So
both run through PS3.8 Table 9-10, negotiate and keep their operations exactly as the
server's engine does, and what they object to is what went wrong.  There is no second
parser; `Framer` and `MessageAssembler` are used once more to see what stands on a line.

Where a real peer goes on although the engine in its place would have aborted, that side is
followed no further: its state is unknown (None), and what it sends is shown unjudged.

Nothing here reads files; see `isocenter.services.diagnostics.dissect.capture_events` for what comes
in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, assert_never

from isocenter.engine import pdu
from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import (
    CStoreRequest,
    Message,
    Response,
    UnrecognizedMessage,
)
from isocenter.engine.dimse.message_fields import NAMES
from isocenter.engine.effects import Effect, PeerFault
from isocenter.engine.errors import ProtocolError, RemoteProtocolError
from isocenter.engine.events import (
    AssociationRejected,
    CancelReceived,
    DataSetReceived,
    MessageReceived,
    ProviderAborted,
)
from isocenter.engine.framing import ControlPdu, DataHeader, Fragment
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import PresentationContext, Role, negotiated_from
from isocenter.engine.pdv import MessageAssembler
from isocenter.engine.states import Sta
from isocenter.services.diagnostics import findings as diagnosis
from isocenter.services.diagnostics.dissect.formatting import (
    show_context,
    show_data_set,
    show_result,
    uid_name,
)
from isocenter.services.diagnostics.dissect.lines import Kind, Line, line_of
from isocenter.services.diagnostics.dissect.replayed_commands import command_of
from isocenter.services.diagnostics.dissect.sides import (
    LENIENT,
    DataSet,
    Side,
    Stream,
    name_of,
    other,
)
from isocenter.services.diagnostics.findings import Finding

#: Missing bytes of a data set are stood in for by pieces of this size.
_STAND_IN: Final = bytes(64 << 10)
#: A side that was silent for longer, in seconds, when the association broke is worth a word.
_SILENCE_SECONDS: Final = 1.0
#: Operations without an answer that are named.
_NAMED_OPERATIONS: Final = 10
_REFUSALS: Final = (pdu.AssociateReject, pdu.Abort)
_OVER: Final = (*_REFUSALS, pdu.ReleaseResponse)
_ENDED: Final = frozenset({Sta.STA1, Sta.STA13})
#: A PDU's header, and a PDV's (PS3.8 9.3.1, 9.3.5.1, E.2).
_HEADER_LENGTH: Final = 6


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
        self._sides = {role: Side(role, limits) for role in Role}
        self._streams = {role: Stream() for role in Role}
        self._request: pdu.AssociateRequest | None = None
        self._contexts: dict[int, PresentationContext] = {}
        self._is_over = False
        self._is_closed = False
        #: Of the line that is being made: what was said or done, what the receiver's engine
        #: objects to, and what the sender's would have; the first of the two is enough.
        self._found: list[Finding] = []
        self._faults: list[Finding] = []
        self._objections: list[Finding] = []

    def observe(self, sender: Role, data: Buffer, time: float = 0.0) -> list[Line]:
        """What *sender* sent next, in any chunks."""
        data = octets(data)
        stream = self._streams[sender]
        stream.last_heard = time
        if stream.is_lost:
            stream.unread += len(data)
            return []
        lines: list[Line] = []
        view = memoryview(data)
        delivered = 0
        try:
            for cut in stream.framer.feed(view):
                begins = max(stream.position - stream.start, delivered)
                lines_of_cut = self._read_cut(sender, cut, time)
                if not lines_of_cut and not isinstance(cut, DataHeader):
                    continue
                # Up to here: chunks never change what the engine makes of them.
                ends = stream.position - stream.start
                self._deliver(sender, view[delivered:begins])
                self._deliver(sender, view[begins:ends], may_cross=_is_release_request(cut))
                delivered = ends
                lines += self._finished(lines_of_cut or self._faulty(sender, time))
        except RemoteProtocolError as fault:
            stream.is_lost = True
            stream.unread = len(view) - (stream.position - stream.start)
            self._sides[sender].transport_lost()
            self._objections.append(diagnosis.of_fault(fault, name_of(sender)))
            text = f"the {name_of(sender)} cannot be read any further"
            self._deliver(sender, view[delivered:])
            lines += self._finished([line_of(Kind.CONNECTION, text, time, sender)])
        else:
            self._deliver(sender, view[delivered:])
            lines += self._finished(self._faulty(sender, time))
        stream.start += len(view)
        return lines

    def missing(self, sender: Role, count: int, time: float = 0.0) -> list[Line]:
        """*count* bytes of *sender* went over the connection and are not in the capture."""
        stream = self._streams[sender]
        if stream.is_lost:
            stream.unread += count
            return []
        text = f"{count} bytes of the {name_of(sender)} are missing from the capture"
        if stream.is_data and count <= stream.left:
            if stream.data_set is not None:
                stream.data_set.is_whole = False
        else:
            # Within headers or a command set: nobody can tell what follows.
            stream.is_lost = True
            for side in self._sides.values():
                side.transport_lost()
            text += "; what it sends cannot be read any further"
        self._found.append(
            diagnosis.warning(
                text,
                cure="capture whole packets (tcpdump -s 0) with a larger buffer (-B), or at the "
                "server itself (isocenter serve --capture)",
            )
        )
        lines = self._finished([line_of(Kind.CONNECTION, "a gap in the capture", time, sender)])
        while count and not stream.is_lost:
            piece = _STAND_IN[:count]
            count -= len(piece)
            lines += self.observe(sender, piece, time)
        return lines

    def closed(self, by: Role, time: float = 0.0, *, was_reset: bool = False) -> list[Line]:
        """One side closed the connection."""
        if self._is_closed:
            return []
        self._is_closed = True
        facing = self._sides[other(by)]
        before = facing.state
        effects = facing.close()
        self._sides[by].close()
        self._note_faults(effects, by)
        is_lost = not self._is_over if before is None else _has_lost_transport(effects)
        if is_lost:
            self._found.append(diagnosis.of_loss(name_of(by), before))
            self._note_silence(other(by), time)
        text = f"the {name_of(by)} {'reset' if was_reset else 'closed'} the connection"
        return self._finished([line_of(Kind.CONNECTION, text, time)])

    def ended(self, time: float = 0.0) -> list[Line]:
        """There is no more; what was left open."""
        for side in self._sides.values():
            self._note_faults(side.read(), other(side.role))
        for role, stream in self._streams.items():
            data_set = stream.data_set
            if data_set is not None:
                self._found.append(
                    diagnosis.warning(
                        f"the data set of {_short(data_set.message)} ends after "
                        f"{data_set.length} bytes, before its last fragment",
                        "PS3.8 E.2",
                    )
                )
            if stream.unread:
                self._found.append(
                    diagnosis.note(f"{stream.unread} bytes of the {name_of(role)} were not read")
                )
            self._note_unanswered(role)
        if not self._is_closed and not self._is_over:
            self._found.append(
                diagnosis.note(
                    "the capture ends before the association does",
                    cure="capture for longer to see its end",
                )
            )
        if not self._found and not self._faults:
            return []
        return self._finished([line_of(Kind.CONNECTION, "the end", time)])

    # What stands on the lines.

    def _read_cut(
        self, sender: Role, cut: ControlPdu | DataHeader | Fragment, time: float
    ) -> list[Line]:
        stream = self._streams[sender]
        match cut:
            case ControlPdu(pdu_type, body):
                stream.position += _HEADER_LENGTH + len(body)
                try:
                    received = pdu.decode_pdu(pdu_type, body, LENIENT)
                except RemoteProtocolError as fault:
                    self._sides[sender].transport_lost()
                    self._objections.append(diagnosis.of_fault(fault, name_of(sender)))
                    return [line_of(Kind.PDU, f"{pdu_type} that cannot be decoded", time, sender)]
                return [self._control(sender, received, time)]
            case DataHeader(length):
                stream.position += _HEADER_LENGTH
                stream.pdu_length = length
                if not self._show_pdvs:
                    return []
                return [line_of(Kind.PDU, f"P-DATA-TF of {length} bytes", time, sender)]
            case Fragment():
                return self._fragment(sender, cut, time)
            case _:
                assert_never(cut)

    def _fragment(self, sender: Role, cut: Fragment, time: float) -> list[Line]:
        stream = self._streams[sender]
        lines: list[Line] = []
        if not stream.left:
            stream.position += _HEADER_LENGTH
            if self._show_pdvs:
                part = "command" if cut.is_command else "data set"
                length = len(cut.data) + cut.remaining
                text = f"PDV on context {cut.context_id}, {part}, {length} bytes"
                lines.append(line_of(Kind.PDV, text, time, sender))
            # What belongs to a message that was not understood is passed over.
            stream.is_skipping = stream.is_skipping and not cut.is_command
        stream.position += len(cut.data)
        stream.left, stream.is_data = cut.remaining, not cut.is_command
        if stream.is_skipping:
            return lines
        try:
            event = stream.assembler.receive(cut)
        except RemoteProtocolError as fault:
            stream.assembler = MessageAssembler(LENIENT)
            stream.data_set = None
            stream.is_skipping = True
            self._objections.append(diagnosis.of_fault(fault, name_of(sender)))
            return [*lines, line_of(Kind.MESSAGE, "what cannot be read as a message", time, sender)]
        match event:
            case None:
                return lines
            case DataSetReceived(_, data, is_last):
                return lines + self._data(sender, data, is_last, time)
            case CancelReceived(context_id, message):
                return [*lines, self._message(sender, context_id, message, False, time)]
            case MessageReceived(context_id, message, has_data_set):
                return [*lines, self._message(sender, context_id, message, has_data_set, time)]
            case _:
                assert_never(event)

    def _message(
        self, sender: Role, context_id: int, message: Message, has_data_set: bool, time: float
    ) -> Line:
        stream, side = self._streams[sender], self._sides[sender]
        if has_data_set:
            stream.data_set = DataSet(context_id, message)
            if not isinstance(message, CStoreRequest):
                stream.data_set.gathered = bytearray()
        if side.state is Sta.STA13 and not self._is_over:
            self._goes_on(side)
        objection = side.submit_message(context_id, message)
        if objection is not None:
            self._objections.append(objection)
        text = describe(message)
        if isinstance(message, UnrecognizedMessage):
            self._found.append(diagnosis.error(text, "PS3.7 Annex C"))
        elif isinstance(message, Response):
            of_status = diagnosis.of_status(message.status, text)
            self._found += [of_status] if of_status is not None else []
        tail = ", data set follows" if has_data_set else ""
        return line_of(Kind.MESSAGE, f"{text}; context {context_id}{tail}", time, sender)

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
            f"P-DATA-TFs of up to {data_set.largest} bytes"
        )
        details: tuple[str, ...] = ()
        if not data_set.is_whole:
            text += ", with a gap in the capture"
        elif data_set.gathered is not None and context is not None:
            details = show_data_set(
                bytes(data_set.gathered), context.transfer_syntax, with_values=self._show_phi
            )
        return [line_of(Kind.DATA_SET, text, time, sender, details)]

    def _control(self, sender: Role, received: pdu.Pdu, time: float) -> Line:
        self._submit(sender, received)
        details: tuple[str, ...] = ()
        match received:
            case pdu.AssociateRequest():
                self._request = received
                details = tuple(map(show_context, received.presentation_contexts))
            case pdu.AssociateAccept():
                details = self._accepted(received)
            case pdu.AssociateReject():
                self._found.append(diagnosis.of_reject(received))
            case pdu.Abort():
                self._found.append(diagnosis.of_abort(received, name_of(sender)))
                self._note_silence(other(sender), time)
            case pdu.ReleaseRequest() | pdu.ReleaseResponse():
                pass
            case _:
                assert_never(received)
        self._is_over = self._is_over or isinstance(received, _OVER)
        return line_of(Kind.PDU, describe(received), time, sender, details)

    def _accepted(self, accept: pdu.AssociateAccept) -> tuple[str, ...]:
        request = self._request
        if request is None:
            return ()
        try:
            self._contexts = dict(negotiated_from(request, accept, Role.REQUESTOR).contexts)
        except ProtocolError:
            pass  # the requestor's engine says so
        self._found += diagnosis.of_contexts(request, accept, uid_name)
        proposed = {context.context_id: context for context in request.presentation_contexts}
        return tuple(
            show_result(result, proposed.get(result.context_id))
            for result in accept.presentation_contexts
        )

    def _submit(self, sender: Role, received: pdu.Pdu) -> None:
        side = self._sides[sender]
        before = side.state
        try:
            self._note_faults(side.submit(command_of(received)), other(sender))
        except ProtocolError as error:
            if before in _ENDED and (self._is_over or isinstance(received, _REFUSALS)):
                return  # as its engine had done already; or both crossed
            if before is Sta.STA13:
                self._goes_on(side)
                return
            side.transport_lost()
            text = f"the {name_of(sender)} sent what it may not: {error}"
            self._objections.append(diagnosis.error(text, diagnosis.clause_in(text)))

    def _goes_on(self, side: Side) -> None:
        side.transport_lost()
        self._found.append(
            diagnosis.note(
                f"the {name_of(side.role)} goes on where the standard asks for A-ABORT; its states "
                "are not followed from here on"
            )
        )

    # What the engines say.

    def _deliver(self, sender: Role, data: memoryview, *, may_cross: bool = False) -> None:
        side = self._sides[other(sender)]
        self._note_faults(side.receive(data, may_cross=may_cross), sender)

    def _faulty(self, sender: Role, time: float) -> list[Line]:
        """A line for what has no other, but a fault."""
        return [line_of(Kind.PDU, "P-DATA-TF", time, sender)] if self._faults else []

    def _note_faults(self, effects: Sequence[Effect], sender: Role) -> None:
        for effect in effects:
            match effect:
                case ProviderAborted(cause=RemoteProtocolError() as cause) | PeerFault(cause):
                    self._faults.append(diagnosis.of_fault(cause, name_of(sender)))
                case AssociationRejected(reject, by_peer=False):
                    text = f"DICOM rejects what the {name_of(sender)} asks for: {describe(reject)}"
                    self._faults.append(diagnosis.warning(text, "PS3.8 9.3.4"))
                case _:
                    pass

    def _note_silence(self, role: Role, time: float) -> None:
        silent = time - self._streams[role].last_heard
        if silent >= _SILENCE_SECONDS:
            self._found.append(
                diagnosis.note(
                    f"nothing had come from the {name_of(role)} for {silent:.1f} s",
                    cure="compare this with the time-outs of both sides",
                )
            )

    def _note_unanswered(self, invoker: Role) -> None:
        ours, theirs = self._sides[invoker].association, self._sides[other(invoker)].association
        if ours is not None:
            outstanding = ours.operations.invoked
        elif theirs is not None:
            outstanding = theirs.operations.performed
        else:
            return
        for message_id, each in list(outstanding.items())[:_NAMED_OPERATIONS]:
            text = f"{NAMES[each.kind]} {message_id} of the {name_of(invoker)} was never answered"
            self._found.append(diagnosis.warning(text, "PS3.7 9.1"))
        if len(outstanding) > _NAMED_OPERATIONS:
            text = f"nor were {len(outstanding) - _NAMED_OPERATIONS} more"
            self._found.append(diagnosis.warning(text, "PS3.7 9.1"))

    def _finished(self, lines: Sequence[Line]) -> list[Line]:
        """The lines with the states as they are now; what was found belongs to the last."""
        if not lines:
            return []
        findings = (*(self._faults or self._objections), *self._found)
        self._found, self._faults, self._objections = [], [], []
        requestor, acceptor = self._sides[Role.REQUESTOR].state, self._sides[Role.ACCEPTOR].state
        finished = [replace(line, requestor=requestor, acceptor=acceptor) for line in lines]
        finished[-1] = replace(finished[-1], findings=findings)
        return finished


def _is_release_request(cut: ControlPdu | DataHeader | Fragment) -> bool:
    return isinstance(cut, ControlPdu) and cut.pdu_type is pdu.PduType.A_RELEASE_RQ


def _has_lost_transport(effects: Sequence[Effect]) -> bool:
    return any(isinstance(effect, ProviderAborted) and effect.transport_lost for effect in effects)


def _short(message: Message) -> str:
    """``C-STORE-RQ 7``."""
    return describe(message).partition(":")[0]
