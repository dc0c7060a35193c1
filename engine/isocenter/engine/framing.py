"""Bytes → control PDUs and P-DATA-TF fragments, bounded and without copies (PS3.8 9.3).

Every length is judged at its header.  A control PDU is gathered under its limit;
the data of a presentation data value (PDV) is never gathered: it leaves as views
of the chunk it came in.  What a PDU *means* is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    UNRECOGNIZED_PDU,
    LimitExceeded,
    RemoteProtocolError,
)
from isocenter.engine.limits import Limits
from isocenter.engine.pdu import PduType

#: PDU type, reserved, PDU length (PS3.8 9.3.1).
_PDU_HEADER: Final = Struct(">BxI")
#: Item length, presentation context ID, message control header (PS3.8 9.3.5.1, E.2).
_PDV_HEADER: Final = Struct(">IBB")
_HEADER_LENGTH: Final = 6
#: What a PDV's item length counts beside the fragment: context ID and control header.
_PDV_OVERHEAD: Final = 2
#: A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP and A-ABORT have a body of four bytes.
_FIXED_BODY_LENGTH: Final = 4
#: As a plain number: nearly every PDU is one.
_P_DATA_TF: Final = int(PduType.P_DATA_TF)
#: By number; to ask an `Enum` costs ten times as much.
_PDU_TYPES: Final = {int(each): each for each in PduType}
_COMMAND_BIT: Final = 1
_LAST_BIT: Final = 2

_ASSOCIATE: Final = (PduType.A_ASSOCIATE_RQ, PduType.A_ASSOCIATE_AC)
_FIXED: Final = (
    PduType.A_ASSOCIATE_RJ,
    PduType.A_RELEASE_RQ,
    PduType.A_RELEASE_RP,
    PduType.A_ABORT,
)


class ControlPdu(NamedTuple):
    """A whole PDU other than P-DATA-TF: its type and its body, the six-byte header excluded."""

    pdu_type: PduType
    body: bytes


class DataHeader(NamedTuple):
    """A P-DATA-TF PDU begins; ``length`` counts its body in bytes."""

    length: int


class Fragment(NamedTuple):
    """A piece of a PDV's fragment; ``remaining`` bytes of that fragment are still to come.

    ``data`` is empty where the fragment is, or where a chunk ends with the PDV's header.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview
    remaining: int


Cut = ControlPdu | DataHeader | Fragment


class Framer:
    """Cuts a stream of bytes, in any chunks, into the same sequence of cuts.

    `feed` raises `RemoteProtocolError` at the first byte that makes the stream
    unreadable; from then on everything is discarded.

    Holds at most a header of six bytes and one control PDU (`Limits.associate_pdu`).
    """

    __slots__ = (
        "_body",
        "_body_left",
        "_broken",
        "_control",
        "_fragment_left",
        "_head",
        "_limits",
        "_pdu_left",
        "_pdv",
        "_skips_data",
        "max_pdu_length",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: The most that a P-DATA-TF may announce: what we announced, or our bound for no limit.
        self.max_pdu_length = limits.max_pdu_length or limits.unlimited_pdu_length
        self._head = bytearray()
        self._control: PduType | None = None
        self._body = bytearray()
        self._body_left = 0
        self._pdu_left = 0
        self._pdv = (0, False, False)
        self._fragment_left = 0
        self._broken = False
        self._skips_data = False

    @property
    def is_between_pdus(self) -> bool:
        """Whether the stream so far ends with a whole PDU."""
        return not (self._head or self._control or self._pdu_left or self._fragment_left)

    @property
    def is_discarding(self) -> bool:
        """Whether what still comes is dropped."""
        return self._broken

    def discard(self) -> None:
        """Understand nothing more: whatever comes is dropped."""
        self._broken = True
        self._body = bytearray()
        self._head = bytearray()

    def skip_data(self) -> None:
        """Look no more into what P-DATA-TFs hold, from within the one at hand on: cutting it
        up for nobody would cost a flood's receiver more than its sender."""
        if not self._skips_data:
            self._skips_data = True
            self._fragment_left += self._pdu_left
            if self._pdu_left:
                self._fragment_left -= len(self._head)
                self._head.clear()
            self._pdu_left = 0

    def feed(self, chunk: Buffer) -> Iterator[Cut]:
        """Cut *chunk*; a fragment's ``data`` is a view of it.

        Raises:
            RemoteProtocolError: an unrecognized PDU type (reason 1), a length that
                its kind forbids or that passes a limit (reason 6).
            LocalProtocolError: *chunk* is no buffer that can be cut.

        Standard: PS3.8 9.3.1, 9.3.5 (Tables 9-22, 9-23).
        """
        taken = octets(chunk)
        view = taken if isinstance(taken, memoryview) else memoryview(taken)
        position, end = 0, len(view)
        while position < end and not self._broken:
            left = self._fragment_left
            if left:
                stop = position + left if left < end - position else end
                self._fragment_left = left = left - (stop - position)
                if not self._skips_data:
                    context_id, is_command, is_last = self._pdv
                    yield Fragment(
                        context_id, is_command, is_last and not left, view[position:stop], left
                    )
                position = stop
            elif self._control is not None:
                take = min(self._body_left, end - position)
                self._body += view[position : position + take]
                self._body_left -= take
                position += take
                if not self._body_left:
                    yield self._control_pdu()
            else:
                if self._head or end - position < _HEADER_LENGTH:
                    take = min(_HEADER_LENGTH - len(self._head), end - position)
                    self._head += view[position : position + take]
                    position += take
                    if len(self._head) < _HEADER_LENGTH:
                        return
                    header: Buffer = bytes(self._head)
                    self._head.clear()
                    start = 0
                else:
                    header, start = view, position
                    position += _HEADER_LENGTH
                try:
                    cut = (
                        self._pdv_header(header, start, position == end)
                        if self._pdu_left
                        else self._pdu_header(header, start)
                    )
                except RemoteProtocolError:
                    self.discard()
                    raise
                if cut is not None:
                    yield cut

    def _control_pdu(self) -> ControlPdu:
        assert self._control is not None
        pdu = ControlPdu(self._control, bytes(self._body))
        self._control = None
        self._body = bytearray()
        return pdu

    def _pdu_header(self, header: Buffer, start: int) -> Cut | None:
        number, length = _PDU_HEADER.unpack_from(header, start)
        if number == _P_DATA_TF:
            if length > self.max_pdu_length:
                raise LimitExceeded(
                    f"P-DATA-TF announces {length} bytes; the maximum length that we announced "
                    f"allows {self.max_pdu_length} (PS3.8 D.1)",
                    "max_pdu_length",
                )
            if length < _HEADER_LENGTH:
                raise RemoteProtocolError(
                    "P-DATA-TF without a PDV (PS3.8 9.3.5)", INVALID_PDU_PARAMETER_VALUE
                )
            if self._skips_data:
                self._fragment_left = length
            else:
                self._pdu_left = length
            return DataHeader(length)
        pdu_type = _PDU_TYPES.get(number)
        if pdu_type is None:
            raise RemoteProtocolError(
                f"unrecognized PDU type {number:02X}H (PS3.8 9.3.1)", UNRECOGNIZED_PDU
            )
        if pdu_type in _ASSOCIATE and length > self._limits.associate_pdu:
            raise LimitExceeded(
                f"{pdu_type} announces {length} bytes, more than {self._limits.associate_pdu}",
                "associate_pdu",
            )
        if pdu_type in _FIXED and length != _FIXED_BODY_LENGTH:
            raise RemoteProtocolError(
                f"{pdu_type} announces {length} bytes instead of {_FIXED_BODY_LENGTH} (PS3.8 9.3)",
                INVALID_PDU_PARAMETER_VALUE,
            )
        self._control = pdu_type
        self._body_left = length
        return None if length else self._control_pdu()

    def _pdv_header(self, header: Buffer, start: int, is_at_end: bool) -> Fragment | None:
        length, context_id, control = _PDV_HEADER.unpack_from(header, start)
        if length < _PDV_OVERHEAD or length + 4 > self._pdu_left:
            raise RemoteProtocolError(
                f"PDV of {length} bytes in a P-DATA-TF with {self._pdu_left} bytes left "
                "(PS3.8 9.3.5.1)",
                INVALID_PDU_PARAMETER_VALUE,
            )
        self._pdu_left -= length + 4
        if 0 < self._pdu_left < _HEADER_LENGTH:
            raise RemoteProtocolError(
                "the PDVs do not fill their P-DATA-TF (PS3.8 9.3.5)", INVALID_PDU_PARAMETER_VALUE
            )
        if not context_id & 1:
            raise RemoteProtocolError(
                f"presentation context ID {context_id} is even (PS3.8 9.3.2.2)",
                INVALID_PDU_PARAMETER_VALUE,
            )
        self._pdv = (context_id, control & _COMMAND_BIT != 0, control & _LAST_BIT != 0)
        self._fragment_left = length - _PDV_OVERHEAD
        # At the end of a chunk: what the header announces is judged now, not with the first
        # byte of the fragment.
        if is_at_end or not self._fragment_left:
            left = self._fragment_left
            context_id, is_command, is_last = self._pdv
            return Fragment(context_id, is_command, is_last and not left, _NOTHING, left)
        return None


_NOTHING: Final = memoryview(b"")
