"""Settings that hold an audit record repository, which takes syslog."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.services.security.audit.repository import SyslogRepository
from isocenter.services.settings import value_types as kinds


@dataclass(frozen=True, slots=True)
class CollectorKind:
    """What a setting that holds a collector may be."""

    allowed: str = "tls://host:port, tcp://host:port or udp://host:port"

    def from_toml(self, value: object) -> SyslogRepository:
        if not isinstance(value, str):
            raise TypeError
        return SyslogRepository.parse(value)

    def from_text(self, text: str) -> SyslogRepository:
        return SyslogRepository.parse(text)

    def to_toml(self, value: object) -> str:
        return kinds.toml_string(str(value))
