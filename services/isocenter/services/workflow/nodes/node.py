"""Remote node: its name, its address, and its last verification."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.association.peer import Peer

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_SERVER_NAME: Final = re.compile(r"[0-9A-Za-z_:][0-9A-Za-z._:-]{0,252}")
#: What an address may be at most; a host has 253 characters.
_MOST_ADDRESS: Final = 1_000
_MOST_PATH: Final = 1_000


class NodeState(Enum):
    """How a node did when it was verified last."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    #: It cannot be reached.
    OFFLINE = "offline"
    #: It was reached, and refused.
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One remote node.

    Attributes:
        name: by which people and jobs call it; unique.
        address: ``AET@host:port``, or the URL of a DICOMweb service.
        tls, verify_host: as of `Peer`; of a URL its scheme says whether.
        server_name: as of `Peer`; of a URL its host says it.
        token_file: holds the bearer token for a DICOMweb service; empty: none is sent.
        ca_file: certificates of CAs that may have signed that of a DICOMweb service; empty: those
            of the system.
        is_enabled: it may be asked and sent to.
        version: changes whenever the fields above do.
        state, checked_at, fault, response_seconds: of the last verification; *checked_at* in
            seconds since 1970, None: there was none.
        failures: verifications that failed in a row.
    """

    name: str
    address: str
    tls: bool = False
    verify_host: bool = True
    server_name: str = ""
    token_file: str = ""
    ca_file: str = ""
    is_enabled: bool = True
    version: int = 1
    state: NodeState = NodeState.UNKNOWN
    checked_at: float | None = None
    fault: str = ""
    response_seconds: float | None = None
    failures: int = 0

    @property
    def is_web(self) -> bool:
        """Whether it speaks DICOMweb."""
        return "://" in self.address

    @property
    def origin(self) -> str:
        """Scheme, host and port of a DICOMweb service."""
        parts = urlsplit(self.address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}"

    @property
    def peer(self) -> Peer:
        """A node that speaks DIMSE, as a peer.

        Raises:
            ValueError: it speaks DICOMweb.
        """
        found = Peer.parse(self.address)
        return replace(
            found, tls=self.tls, verify_host=self.verify_host, server_name=self.server_name
        )


def new_node(
    address: str,
    name: str = "",
    *,
    tls: bool = False,
    verify_host: bool = True,
    server_name: str = "",
    token_file: str = "",
    ca_file: str = "",
) -> Node:
    """A node that people have described.

    Args:
        name: empty: the AE title of the address, or the host of the URL.

    Raises:
        ValueError: the address, the name, or that of a file, is none; the message says what it
            has to be.
    """
    if len(address) > _MOST_ADDRESS:
        raise ValueError(f"the address has more than {_MOST_ADDRESS} characters")
    if "://" in address:
        default = _host_of(address)
        if tls:
            raise ValueError("of a URL its scheme says whether TLS is spoken: https")
        if server_name:
            raise ValueError("of a URL its host says whose its certificate has to be")
    else:
        peer = Peer.parse(address)
        default = peer.ae_title
        address = str(peer)
        if token_file or ca_file:
            raise ValueError(
                "a token and a CA of its own are for DICOMweb; DIMSE nodes are spoken to with the "
                "server's certificate and CA"
            )
    if server_name and not tls:
        raise ValueError("a server name is about TLS; speak TLS with the node")
    if server_name and _SERVER_NAME.fullmatch(server_name) is None:
        raise ValueError("a server name is a host name or an address, without a port")
    for path in (token_file, ca_file):
        if len(path) > _MOST_PATH or not path.isprintable():
            raise ValueError(f"a file is named by up to {_MOST_PATH} printable characters")
    name = name or default
    if not is_node_name(name):
        raise ValueError(
            "a name of a node has up to 64 letters, digits, spaces, '.', '_' and '-', and begins "
            "with a letter or a digit"
        )
    return Node(
        name=name,
        address=address,
        tls=tls,
        verify_host=verify_host,
        server_name=server_name,
        token_file=token_file,
        ca_file=ca_file,
    )


def is_node_name(text: str) -> bool:
    """Whether a node can have that name."""
    return _NAME.fullmatch(text) is not None


def _host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the URL is none: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("a URL of a DICOMweb service is http://host… or https://host…")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "the URL of a DICOMweb service has no user, query or fragment; a token comes from a "
            "file"
        )
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL has only ASCII letters, digits and signs")
    return host
