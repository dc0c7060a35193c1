"""Dissector: finds the associations among the connections of a capture.

A connection is DICOM when its client speaks first and begins with an A-ASSOCIATE-RQ,
whatever the port.  TLS is recognised, and cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from enum import Enum, auto
from typing import Final, assert_never

from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Role
from isocenter.services.diagnostics import findings as diagnosis
from isocenter.services.diagnostics.dissect.capture_events import (
    BytesCaptured,
    BytesMissing,
    Captured,
    CaptureEnded,
    ConnectionClosed,
    ConnectionOpened,
)
from isocenter.services.diagnostics.dissect.lines import Kind, Line
from isocenter.services.diagnostics.dissect.observer import Observer
from isocenter.services.diagnostics.findings import Finding, Severity

#: A PDU header (PS3.8 9.3.1).
_HEADER_LENGTH: Final = 6
_ASSOCIATE_RQ: Final = 0x01
#: The fixed fields of an A-ASSOCIATE-RQ (PS3.8 9.3.2).
_SHORTEST_RQ: Final = 68
#: A TLS record: handshake, of version 3.x.
_TLS: Final = b"\x16\x03"


class _Speech(Enum):
    """What a connection speaks."""

    DICOM = auto()
    TLS = auto()
    OTHER = auto()


@dataclass(slots=True)
class _Connection:
    opened: ConnectionOpened
    head: bytes = b""
    number: int = 0
    observer: Observer | None = None


@dataclass(slots=True)
class DissectionCounts:
    """What was there, all in all."""

    associations: int = 0
    tls: int = 0
    #: Connections that are in the capture without their beginning.
    beheaded: int = 0
    others: int = 0
    findings: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))


class Dissector:
    """Takes what was captured, and says it in lines.

    Args:
        association: show only the one with this number, in the order of their beginning.
        port: look only at connections with this port at either end.
        show_phi, show_pdvs: as for `Observer`.
    """

    def __init__(
        self,
        *,
        association: int | None = None,
        port: int | None = None,
        show_phi: bool = False,
        show_pdvs: bool = False,
    ) -> None:
        self.tally = DissectionCounts()
        self._association = association
        self._port = port
        self._show_phi = show_phi
        self._show_pdvs = show_pdvs
        self._connections: dict[int, _Connection] = {}

    def take(self, item: Captured) -> Iterator[tuple[int, Line]]:
        """Numbers of associations, and what happened on them; 0 for what is none."""
        if isinstance(item, ConnectionOpened):
            if self._port is None or self._port in (_port(item.client), _port(item.server)):
                self._connections[item.connection] = _Connection(item)
            return
        connection = self._connections.get(item.connection)
        if connection is None:
            return
        if isinstance(item, CaptureEnded):
            del self._connections[item.connection]
        time = item.time - connection.opened.time
        observer = connection.observer
        if observer is None:
            if isinstance(item, BytesCaptured):
                yield from self._begin(connection, item, time)
            elif isinstance(item, BytesMissing):
                self._leave(connection, beheaded=True)
            return
        match item:
            case BytesCaptured(by_client=by_client, data=data):
                lines = observer.observe(_role(by_client), data, time)
            case BytesMissing(by_client=by_client, count=count):
                lines = observer.missing(_role(by_client), count, time)
            case ConnectionClosed(by_client=by_client, was_reset=was_reset):
                lines = observer.closed(_role(by_client), time, was_reset=was_reset)
            case CaptureEnded():
                lines = observer.ended(time)
            case _:
                assert_never(item)
        for line in lines:
            yield self._count(connection.number, line)

    def _begin(
        self, connection: _Connection, item: BytesCaptured, time: float
    ) -> Iterator[tuple[int, Line]]:
        """The first bytes: what it is, and once that is clear, an observer."""
        if not item.by_client:
            self._leave(connection, beheaded=not connection.opened.is_complete)
            return
        connection.head += bytes(item.data)
        speech = _speech_of(connection.head)
        if speech is None:
            return
        opened = connection.opened
        where = f"{opened.client} → {opened.server}"
        match speech:
            case _Speech.OTHER:
                self._leave(connection, beheaded=not opened.is_complete)
            case _Speech.TLS:
                del self._connections[opened.connection]
                self.tally.tls += 1
                line = Line(time, None, Kind.OPENED, where, findings=(_OVER_TLS,))
                yield self._count(0, line)
            case _Speech.DICOM:
                self.tally.associations += 1
                connection.number = self.tally.associations
                if self._association not in (None, connection.number):
                    del self._connections[opened.connection]
                    return
                connection.observer = Observer(show_phi=self._show_phi, show_pdvs=self._show_pdvs)
                yield connection.number, Line(time, None, Kind.OPENED, where)
                head, connection.head = connection.head, b""
                for line in connection.observer.observe(Role.REQUESTOR, head, time):
                    yield self._count(connection.number, line)
            case _:
                assert_never(speech)

    def _leave(self, connection: _Connection, *, beheaded: bool) -> None:
        self._connections.pop(connection.opened.connection, None)
        if beheaded:
            self.tally.beheaded += 1
        else:
            self.tally.others += 1

    def _count(self, number: int, line: Line) -> tuple[int, Line]:
        for finding in line.findings:
            self.tally.findings[finding.severity] += 1
        return number, line


_OVER_TLS: Final[Finding] = diagnosis.warning(
    "this connection speaks TLS; nobody can read it from outside",
    cure="capture at the server, behind TLS: isocenter serve --capture DIR",
)


def _speech_of(head: bytes) -> _Speech | None:
    """What a client that begins with *head* speaks; None: too little to tell."""
    if head.startswith(_TLS):
        return _Speech.TLS
    if _TLS.startswith(head):
        return None
    if head[0] != _ASSOCIATE_RQ or head[1:2] not in (b"", b"\0"):
        return _Speech.OTHER
    if len(head) < _HEADER_LENGTH:
        return None
    is_long_enough = int.from_bytes(head[2:_HEADER_LENGTH]) >= _SHORTEST_RQ
    return _Speech.DICOM if is_long_enough else _Speech.OTHER


def _role(by_client: bool) -> Role:
    return Role.REQUESTOR if by_client else Role.ACCEPTOR


def _port(address: str) -> int | None:
    digits = address.rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else None
