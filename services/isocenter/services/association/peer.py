"""Another application entity: how it is called and where it listens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity: a destination of C-MOVE.

    Attributes:
        tls: whether to speak TLS to it, with our own certificate.
        verify_host: with TLS, whether its certificate must be for *host*; if not, any
            certificate that the CA has signed will do.
    """

    ae_title: str
    host: str
    port: int
    tls: bool = False
    verify_host: bool = True

    @classmethod
    def parse(cls, text: str) -> Peer:
        """From ``AET@host:port`` or ``AET:host:port``; an IPv6 address stands in brackets.

        Raises:
            ValueError: it is neither.
        """
        if "@" in text:
            ae_title, _, address = text.rpartition("@")
        else:
            ae_title, _, address = text.partition(":")
        match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", address)
        if match is None:
            raise ValueError("a peer is AET@host:port or AET:host:port")
        return cls(
            kinds.AE_TITLE.from_text(ae_title.strip(" ")),
            kinds.HOST.from_text(match[1] or match[2]),
            kinds.PEER_PORT.from_text(match[3]),
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


_PEER_KEYS: Final[Mapping[str, kinds.Kind[object]]] = {
    "ae_title": kinds.AE_TITLE,
    "host": kinds.HOST,
    "port": kinds.PEER_PORT,
    "tls": kinds.Switch(),
    "verify_host": kinds.Switch(),
}


@dataclass(frozen=True, slots=True)
class PeerKind:
    """What a setting that holds a peer may be: a table in TOML, ``AET@host:port`` as text."""

    allowed: str = (
        "AET@host:port, or in a file a table with ae_title, host and port, "
        "and tls and verify_host if wanted"
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
            raise kinds.ExplainedError(f"{fault}; must be {self.allowed}")
        parts = (
            kinds.Part(key, one, _PEER_KEYS[key].allowed, partial(_PEER_KEYS[key].from_toml, one))
            for key, one in value.items()
        )
        checked: dict[str, Any] = dict(zip(value, kinds.each(parts), strict=True))
        return Peer(**checked)

    def from_text(self, text: str) -> Peer:
        """`Peer.parse`."""
        return Peer.parse(text)

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, Peer)
        pairs = (f"{key} = {kind.to_toml(getattr(value, key))}" for key, kind in _PEER_KEYS.items())
        return f"{{ {', '.join(pairs)} }}"
