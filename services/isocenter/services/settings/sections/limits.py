"""Sections of deadlines and limits."""

from __future__ import annotations

import os

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import MIB, limit, seconds, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineSettings:
    """How long each wait may last; progress restarts those that measure progress."""

    connect: float = seconds(10.0, "time to connect to a peer")
    tls_handshake: float = seconds(5.0, "time for the TLS handshake when connecting to a peer")
    association_request: float = seconds(
        5.0,
        "time from an incoming connection, including its TLS handshake, to A-ASSOCIATE-AC; also "
        "ARTIM",
    )
    association_response: float = seconds(30.0, "time until a peer answers A-ASSOCIATE-RQ")
    idle: float = seconds(60.0, "time without activity after which an association is aborted")
    response: float = seconds(60.0, "time until a peer answers a DIMSE request")
    release: float = seconds(10.0, "time until a peer answers A-RELEASE-RQ")
    write_blocked: float = seconds(
        30.0, "time in which a peer accepts no data, after which the association is aborted"
    )
    suboperation: float = seconds(
        60.0, "time until a C-STORE sub-operation of C-MOVE or C-GET is answered"
    )
    destination: float = seconds(
        300.0,
        "time to wait while all `query.move_associations` with a C-MOVE destination are in use",
    )
    kept_association: float = seconds(
        5.0,
        "time for which an association that this server requested (forwarding, C-MOVE, jobs) is "
        "kept for the next use, before it is released",
    )
    abort: float = seconds(2.0, "time to send A-ABORT and close the connection")
    shutdown: float = seconds(
        10.0,
        "time that busy associations have to finish when the server stops, before they are aborted",
    )


def default_bytes_in_flight() -> int:
    """A quarter of the machine's memory, at most 1 GiB; where nobody tells that, 256 MiB."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        memory = 1 << 30
    return max(MIB, min(1 << 30, memory // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits on what peers can send; the reasons are in `isocenter.engine.limits`."""

    bytes_in_flight: int = setting(
        default_bytes_in_flight,
        kinds.Integer(MIB, 1 << 40, "bytes"),
        "data received and not yet written, of all associations of all workers together; each "
        "worker has an equal share",
        default_text="a quarter of the machine's memory, at most 1 GiB",
    )
    associate_pdu: int = limit("associate_pdu", 16_384, 1 << 26, "the longest A-ASSOCIATE PDU")
    command_set: int = limit("command_set", 4_096, 1 << 24, "the longest command set")
    identifier: int = limit("identifier", 4_096, 1 << 28, "the longest identifier")
    identifier_elements: int = limit(
        "identifier_elements", 1_000, 10_000_000, "the most elements of an identifier", ""
    )
    empty_fragments: int = limit(
        "empty_fragments", 0, 1_000_000, "the most fragments without data in one message", ""
    )
    nesting: int = limit(
        "nesting", 1, 1_000, "the deepest nesting of sequences within sequences", ""
    )
