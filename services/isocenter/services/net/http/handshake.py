"""Handshake of WebSockets: fields of the request, and of the answer (RFC 6455 4.2)."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Final

from isocenter.services.net.http.messages import Headers, HttpError

VERSION: Final = "13"
_KEY_BYTES: Final = 16
#: RFC 6455 1.3.
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def check_handshake(header: Callable[[str], str | None]) -> None:
    """Whether a request may become a WebSocket, by its fields.

    Raises:
        HttpError: it may not (400, 426).
    """
    if header("sec-websocket-version") != VERSION:
        raise HttpError(
            426,
            "WRONG_VERSION",
            f"Sec-WebSocket-Version has to be {VERSION}",
            [("sec-websocket-version", VERSION), ("upgrade", "websocket")],
        )
    try:
        key = b64decode(header("sec-websocket-key") or "", validate=True)
    except (Base64Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise HttpError(400, "BAD_HANDSHAKE", "Sec-WebSocket-Key has to be 16 bytes in Base64")


def accept_headers(header: Callable[[str], str | None], subprotocol: str = "") -> Headers:
    """What the 101 says to a request that `check_handshake` has passed."""
    key = (header("sec-websocket-key") or "").encode("latin-1")
    accept = b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest()).decode("ascii")
    said = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]
    return [*said, ("sec-websocket-protocol", subprotocol)] if subprotocol else said
