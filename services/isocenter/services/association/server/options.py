"""Options of a server, beside its services and where it listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final

from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Role
from isocenter.services.association.access import AccessControl, AeTitleRules
from isocenter.services.association.server.admission import ServerLimits
from isocenter.services.net.transport import Transport
from isocenter.services.notices import Notices

#: How long a stop waits for operations under way.
DEFAULT_GRACE_SECONDS: Final = 10.0

#: Takes a transport and what we are on it; gives the one to use.
WrapTransport = Callable[[Transport, Role], Transport]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server behaves.

    Attributes:
        access: who may associate; default: anybody in the clear, and over TLS whose
            certificate carries the calling AE title.
        max_pdu_length: announced to peers, in bytes; None: `Limits.max_pdu_length`.
        operations_window: operations that a peer may have outstanding at once on one association.
        deadlines: how long a peer may take.
        limits: how much of a peer is held in memory.
        server_limits: what strangers may take together.
        grace_seconds: how long a stop waits for operations under way.
        wrap_transport: puts something that sees all bytes between each association and its
            connection (`CaptureFolder.record` of `isocenter.services.diagnostics.capture`);
            None: nothing.
        notices: hears what happens.
    """

    access: AccessControl = field(default_factory=AeTitleRules)
    max_pdu_length: int | None = None
    operations_window: int = 1
    deadlines: Deadlines = DEFAULT_DEADLINES
    limits: Limits = DEFAULT_LIMITS
    server_limits: ServerLimits = field(default_factory=ServerLimits)
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    wrap_transport: WrapTransport | None = None
    notices: Notices = field(default_factory=Notices)
