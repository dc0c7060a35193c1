"""Client addresses behind proxies, from the headers of those that are trusted (RFC 7239)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_within, without_brackets

X_FORWARDED_FOR: Final = "x-forwarded-for"
FORWARDED: Final = "forwarded"
#: Whoever sends one of these is, or came through, a proxy.
_SIGNS: Final = frozenset((
    FORWARDED, X_FORWARDED_FOR, "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server",
    "x-real-ip", "via",
))  # fmt: skip

#: One pair of an element of `Forwarded`; what stands between is separated by ``;`` and ``,``.
_PAIR: Final = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*')
#: Hops that are looked at, from the last on.
_MOST_HOPS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedProxies:
    """The proxies whose word is taken for where a request came from.

    Only one header is read: a proxy adds to the one that it knows, and passes on whatever a client
    writes into the other.

    Attributes:
        networks: addresses and networks of the proxies.
        header: the one that they write, in lower case.
    """

    networks: tuple[str, ...] = ()
    header: str = X_FORWARDED_FOR

    def trusts(self, host: str) -> bool:
        """Whether *host* is one of them."""
        return is_within(host, self.networks)

    def client(self, peer: str, header: Callable[[str], str | None]) -> str:
        """Where a request came from: the last hop that is none of the proxies.

        What stands before it may have been invented.  Where the last proxy does not know, or
        writes what is no address, the client is as good as that proxy.

        Args:
            peer: the other end of the connection.
            header: gives the request's headers.
        """
        found = peer
        hops = self._hops(header(self.header) or "")
        for _ in range(_MOST_HOPS):
            if not self.trusts(found):
                return found
            hop = next(hops, None)
            if hop is None:
                return found
            found = hop
        return found

    def _hops(self, said: str) -> Iterator[str]:
        """The addresses in the header, the last first, up to the first that is none."""
        names = _forwarded_for(said) if self.header == FORWARDED else said.split(",")
        for name in reversed(names):
            address = _address_of(name.strip())
            if address is None:
                return
            yield address


NO_PROXIES: Final = TrustedProxies()


def is_passed_on(names: Iterable[str]) -> bool:
    """Whether a request says that it came through a proxy.

    Args:
        names: of its fields, in lower case.
    """
    return not _SIGNS.isdisjoint(names)


def _forwarded_for(said: str) -> list[str]:
    """The ``for`` of each element of `Forwarded`; empty where there is none, or the header cannot
    be read from there on."""
    names = [""]
    at = 0
    while at < len(said):
        if said[at] in ",; \t":
            if said[at] == ",":
                names.append("")
            at += 1
            continue
        pair = _PAIR.match(said, at)
        if pair is None:
            return [*names, ""]
        if pair[1].lower() == "for":
            names[-1] = re.sub(r"\\(.)", r"\1", pair[2][1:-1]) if pair[2][:1] == '"' else pair[2]
        at = pair.end()
    return names


def _address_of(name: str) -> str | None:
    """The address in ``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]:80`` or ``2001:db8::1``."""
    if name.startswith("[") or name.count(":") == 1:
        host, _, port = name.rpartition(":")
        if port.isdecimal() and host:
            name = host
    try:
        return str(ipaddress.ip_address(without_brackets(name)))
    except ValueError:
        return None
