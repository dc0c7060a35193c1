"""Addresses of machines, and the networks that they belong to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

#: A name, or an IPv6 address in brackets, and a port.
_AUTHORITY: Final = re.compile(
    r"([A-Za-z0-9._-]{1,255}|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?"
)
_MOST_PORT: Final = 65_535


def is_host(text: str) -> bool:
    """Whether it can be the name or the address of a machine; nobody is asked whether it is."""
    return text != "" and text.isprintable() and not any(c.isspace() or c in "/@" for c in text)


def is_authority(text: str) -> bool:
    """Whether it is a name or an address, and a port behind it or not, as a URL has it."""
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or int(parts[3] or 0) > _MOST_PORT:
        return False
    return parts[2] is None or _is_ipv6(parts[2])


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def without_brackets(host: str) -> str:
    """An IPv6 address without the brackets that a URL has around it."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_network(text: str) -> bool:
    """Whether it is an address or a network: ``10.1.0.7``, ``10.1.0.0/16``, ``fd00::/8``."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def is_within(host: str, networks: Iterable[str]) -> bool:
    """Whether the address *host* is of one of *networks*; a name is of none."""
    try:
        address = _address(host)
    except ValueError:
        return False
    address = _unmapped(address)
    return any(address in ipaddress.ip_network(each) for each in networks)


@lru_cache(maxsize=256)  # few addresses ask for much
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it: an address, or the name ``localhost``."""
    if host.lower() in {"localhost", "localhost."}:
        return True
    try:
        address = _address(host)
    except ValueError:
        return False
    return _unmapped(address).is_loopback


def is_loopback_authority(authority: str | None) -> bool:
    """Whether a `Host` header names this machine; none, as of HTTP/1.0, does: no browser sends
    such a request."""
    if authority is None:
        return True
    if not is_authority(authority):
        return False
    name = authority
    if not name.endswith("]"):
        without_port, colon, _ = name.rpartition(":")
        name = without_port if colon else name
    return is_loopback(name)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _unmapped(address: _Address) -> _Address:
    """An IPv4 address that a socket for both shows as ``::ffff:10.0.0.1``."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=256)  # few addresses ask for much
def _address(host: str) -> _Address:
    return ipaddress.ip_address(host.strip("[]").partition("%")[0])
