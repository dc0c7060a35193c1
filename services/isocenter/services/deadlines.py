"""How long anything may wait: one frozen value, no number elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each wait may last, in seconds; progress restarts those that measure progress."""

    #: From connecting to the transport connection (client).
    connect: float = 10.0
    #: TLS handshake (client); a server counts it into `association_request`.
    tls_handshake: float = 5.0
    #: ARTIM, and a server's one clock from accept over TLS to A-ASSOCIATE-AC.
    association_request: float = 5.0
    #: For A-ASSOCIATE-AC after A-ASSOCIATE-RQ (client).
    association_response: float = 30.0
    #: Nothing received, nothing to do: A-ABORT.
    idle: float = 60.0
    #: A DIMSE response, or the next of several.
    response: float = 60.0
    #: A-RELEASE-RP, or the end of operations when the peer asks for release.
    release: float = 10.0
    #: The socket takes no byte.
    write_blocked: float = 30.0
    #: Closing an association that failed: A-ABORT out, connection closed.
    abort: float = 2.0


DEFAULT_DEADLINES = Deadlines()
