"""Settings that hold an audit record repository, which takes syslog."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.services.security.audit.repository import Collector
from isocenter.services.settings import value_types as kinds


@dataclass(frozen=True, slots=True)
class CollectorKind:
    """What a setting that holds a collector may be."""

    allowed: str = "tls://host:port, tcp://host:port or udp://host:port"

    def from_toml(self, value: object) -> Collector:
        if not isinstance(value, str):
            raise TypeError
        return Collector.parse(value)

    def from_text(self, text: str) -> Collector:
        return Collector.parse(text)

    def to_toml(self, value: object) -> str:
        return kinds.quote(str(value))
