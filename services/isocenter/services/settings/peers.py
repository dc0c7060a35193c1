"""Settings that hold a peer: a table in TOML, ``AET@host:port`` as text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.association.peer import Peer
from isocenter.services.settings import value_types as kinds

_PEER_KEYS: Final[Mapping[str, kinds.ValueType[object]]] = {
    "ae_title": kinds.AE_TITLE,
    "host": kinds.HOST,
    "port": kinds.PEER_PORT,
    "tls": kinds.Boolean(),
    "verify_host": kinds.Boolean(),
    "server_name": kinds.HOST,
}


@dataclass(frozen=True, slots=True)
class PeerKind:
    """What a setting that holds a peer may be: a table in TOML, ``AET@host:port`` as text."""

    allowed: str = (
        "AET@host:port (at most 16 characters; 1 to 65535), or in a file a table with ae_title, "
        "host and port, and tls, verify_host and server_name if wanted"
    )

    def from_toml(self, value: object) -> Peer:
        """A table, or text."""
        if isinstance(value, str):
            return Peer.parse(value)
        if not isinstance(value, dict):
            raise TypeError
        unknown = [key for key in value if key not in _PEER_KEYS]
        missing = [key for key in ("ae_title", "host", "port") if key not in value]
        if unknown or missing:
            fault = f"there is no {unknown[0]!r}" if unknown else f"{missing[0]} is missing"
            raise kinds.InvalidValueError(f"{fault}; must be {self.allowed}")
        parts = (
            kinds.Part(key, one, _PEER_KEYS[key].allowed, partial(_PEER_KEYS[key].from_toml, one))
            for key, one in value.items()
        )
        checked: dict[str, Any] = dict(zip(value, kinds.each(parts), strict=True))
        peer = Peer(**checked)
        if peer.server_name and not peer.tls:
            raise kinds.InvalidValueError("server_name is about TLS; add tls = true")
        return peer

    def from_text(self, text: str) -> Peer:
        """`Peer.parse`."""
        return Peer.parse(text)

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, Peer)
        pairs = (
            f"{key} = {kind.to_toml(found)}"
            for key, kind in _PEER_KEYS.items()
            if (found := getattr(value, key)) != ""
        )
        return f"{{ {', '.join(pairs)} }}"
