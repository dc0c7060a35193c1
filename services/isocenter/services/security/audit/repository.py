"""Audit record repository that takes syslog (PS3.15 A.5): protocol, host, port."""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_host


class Protocol(Enum):
    """How records travel."""

    #: RFC 5425: octet counting, both sides with a certificate.
    TLS = "tls"
    #: RFC 6587 3.4.1: octet counting, in the clear.
    TCP = "tcp"
    #: RFC 5426: nobody knows what arrives.
    UDP = "udp"


_PORT_MAX: Final = 65_535
_DEFAULT_PORTS: Final = {Protocol.TLS: 6514, Protocol.TCP: 601, Protocol.UDP: 514}
_ADDRESS: Final = re.compile(
    r"(tls|tcp|udp)://(?:\[([^\[\]]+)\]|([^:\[\]/@]+))(?::([0-9]{1,5}))?/?"
)


@dataclass(frozen=True, slots=True)
class SyslogRepository:
    """One syslog collector."""

    protocol: Protocol
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> SyslogRepository:
        """From ``tls://host:port``, ``tcp://…`` or ``udp://…``; the port may be left out.

        Raises:
            ValueError: it is none.
        """
        match = _ADDRESS.fullmatch(text.strip())
        if match is None:
            raise ValueError("a collector is tls://host:port, tcp://host:port or udp://host:port")
        protocol = Protocol(match[1])
        host = match[2] or match[3]
        port = int(match[4]) if match[4] else _DEFAULT_PORTS[protocol]
        if not is_host(host) or not 1 <= port <= _PORT_MAX:
            raise ValueError("a collector has a host, and a port from 1 to 65535 if any")
        return cls(protocol, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol.value}://{host}:{self.port}"

    @property
    def file_name(self) -> str:
        """What of it goes into a file name, and is no other collector's."""
        digest = hashlib.sha256(str(self).encode()).hexdigest()[:8]
        readable = re.sub(r"[^A-Za-z0-9.-]", "_", self.host)[:60]
        return f"{self.protocol.value}-{readable}-{self.port}-{digest}"
