"""Lines of a dissection: who said what, and what is wrong with it."""

from __future__ import annotations

from enum import Enum

from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Role
from isocenter.engine.states import Sta
from isocenter.services.diagnostics.findings import Finding


class Kind(Enum):
    """What a line is about."""

    OPENED = "opened"
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
        text: in one line, without PHI.
        requestor: the association requestor's state afterwards; None: unknown.
        acceptor: the association acceptor's.
        details: further lines; they hold attribute values only where that was asked for.
        findings: what was wrong with it.
    """

    time: float
    sender: Role | None
    kind: Kind
    text: str
    requestor: Sta | None = None
    acceptor: Sta | None = None
    details: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def line_of(
    kind: Kind, text: str, time: float, sender: Role | None = None, details: tuple[str, ...] = ()
) -> Line:
    """A line in which nothing was found wrong."""
    return Line(time, sender, kind, text, details=details)
