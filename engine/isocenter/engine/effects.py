"""Effects of an engine call: events for the user, orders for the driver."""

from __future__ import annotations

from isocenter.engine.buffers import Buffer
from isocenter.engine.errors import RemoteProtocolError
from isocenter.engine.events import Event
from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class OpenTransport:
    """Connect (AE-1); then call ``transport_opened``."""


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Write these buffers, in order, before anything of a later effect; whole PDUs."""

    buffers: tuple[Buffer, ...]


@dataclass(frozen=True, slots=True)
class CloseTransport:
    """Close the connection; nothing more is sent or understood."""


@dataclass(frozen=True, slots=True)
class StartArtim:
    """Start, or restart, the association request/reject/release timer (PS3.8 9.1.5)."""


@dataclass(frozen=True, slots=True)
class StopArtim:
    """Stop ARTIM if it runs."""


@dataclass(frozen=True, slots=True)
class PeerFault:
    """The peer broke the protocol where no indication is due (Sta2, Sta13): for the log."""

    cause: RemoteProtocolError


Effect = Event | OpenTransport | SendBytes | CloseTransport | StartArtim | StopArtim | PeerFault
