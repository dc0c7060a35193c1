"""Options of a server, beside its services and where it listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final

from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Role
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from isocenter.services.association.access import AccessControl, AeTitleRules
from isocenter.services.association.server.admission import ServerLimits
from isocenter.services.association.server.syntax_orders import SyntaxOrder
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
        implementation_class_uid, implementation_version_name: which program answers (PS3.7
            D.3.3.2), for products that are made with this library.
        syntax_orders: which transfer syntaxes some peers get, for some SOP classes; the first that
            is about a presentation context holds.
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
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME
    syntax_orders: tuple[SyntaxOrder, ...] = ()
    operations_window: int = 1
    deadlines: Deadlines = DEFAULT_DEADLINES
    limits: Limits = DEFAULT_LIMITS
    server_limits: ServerLimits = field(default_factory=ServerLimits)
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    wrap_transport: WrapTransport | None = None
    notices: Notices = field(default_factory=Notices)
