"""What an engine call answers with: events for the service-user, orders for the driver."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.engine.buffers import Buffer
from isocenter.engine.errors import RemoteProtocolError
from isocenter.engine.events import Event
from isocenter.engine.quick import quick_init


@quick_init
@dataclass(frozen=True, slots=True)
class OpenTransport:
    """Connect (AE-1); then call ``transport_opened``."""


@quick_init
@dataclass(frozen=True, slots=True)
class SendBytes:
    """Write these buffers, in order, before anything of a later effect; whole PDUs."""

    buffers: tuple[Buffer, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class CloseTransport:
    """Close the connection; nothing more is sent or understood."""


@quick_init
@dataclass(frozen=True, slots=True)
class StartArtim:
    """Start, or restart, the association request/reject/release timer (PS3.8 9.1.5)."""


@quick_init
@dataclass(frozen=True, slots=True)
class StopArtim:
    """Stop ARTIM if it runs."""


@quick_init
@dataclass(frozen=True, slots=True)
class PeerFault:
    """The peer broke the protocol where no indication is due (Sta2, Sta13): for the log."""

    cause: RemoteProtocolError


Effect = Event | OpenTransport | SendBytes | CloseTransport | StartArtim | StopArtim | PeerFault
