"""Another application entity: how it is called and where it listens."""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_host

_PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity: how it is called, and where it listens.

    Attributes:
        tls: whether it wants TLS.  The archive speaks it with its own certificate;
            `open_association` takes a context for it.
        verify_host: with TLS, whether its certificate must be for *host*; if not, any
            certificate that the CA has signed will do.
        server_name: with TLS, the name that its certificate must be for, and that it is asked for
            (SNI); empty: *host*.
    """

    ae_title: str
    host: str
    port: int
    tls: bool = False
    verify_host: bool = True
    server_name: str = ""

    @property
    def tls_name(self) -> str:
        """Name that the certificate of the peer has to be for."""
        return self.server_name or self.host

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
        ae_title, host, port = ae_title.strip(" "), match[1] or match[2], int(match[3])
        if not is_ae_title(ae_title) or not is_host(host) or not 1 <= port <= _PORT_MAX:
            raise ValueError("a peer has an AE title, a host and a port from 1 to 65535")
        return cls(ae_title, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"
