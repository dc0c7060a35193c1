"""TLS probe: certificates, version and cipher suite of a peer, without trust.

A look is a handshake of its own that ends when the peer's certificates have come.  It
verifies nothing and shows nothing of ours; whom we trust is decided elsewhere.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from typing import Final

import trio
from cryptography import x509
from OpenSSL import SSL

from isocenter.engine.fast_init import dataclass
from isocenter.services.association.peer import Peer

_READ_BYTES: Final = 16_384
#: Old versions need suites and keys that OpenSSL has otherwise switched off.
_EVERYTHING: Final = b"ALL:@SECLEVEL=0"
#: Versions that are safe, and those that are not (RFC 8996), newest first.
VERSIONS: Final = {
    "TLS 1.3": SSL.TLS1_3_VERSION,
    "TLS 1.2": SSL.TLS1_2_VERSION,
    "TLS 1.1": SSL.TLS1_1_VERSION,
    "TLS 1.0": SSL.TLS1_VERSION,
}
SAFE_VERSIONS: Final = ("TLS 1.3", "TLS 1.2")


@dataclass(frozen=True, slots=True)
class TlsProbe:
    """What came of a look.

    Attributes:
        speaks_tls: whether the answer was TLS at all.
        version: that the peer chose; empty: there was no handshake.
        chain: the peer's certificates, its own first; empty: none came.
    """

    speaks_tls: bool
    version: str = ""
    suite: str = ""
    chain: tuple[x509.Certificate, ...] = ()


async def probe_tls(
    peer: Peer, seconds: float, versions: Sequence[str] = SAFE_VERSIONS
) -> TlsProbe:
    """Connect and shake hands, with one of *versions*, as far as the peer lets us."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(min(VERSIONS[name] for name in versions))
    context.set_max_proto_version(max(VERSIONS[name] for name in versions))
    context.set_cipher_list(_EVERYTHING)
    context.set_verify(SSL.VERIFY_NONE)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    first = b""
    with trio.move_on_after(seconds):
        try:
            stream = await trio.open_tcp_stream(peer.host, peer.port)
        except OSError:
            return TlsProbe(speaks_tls=False)
        async with stream:
            while not connection.get_peer_cert_chain():
                try:
                    connection.do_handshake()
                    break
                except SSL.WantReadError:
                    pass
                except SSL.Error:
                    break
                try:
                    if out := _outgoing(connection):
                        await stream.send_all(out)
                    data = await stream.receive_some(_READ_BYTES)
                except trio.BrokenResourceError:
                    break
                if not data:
                    break
                first = first or bytes(data[:1])
                connection.bio_write(data)
            # OpenSSL is not asked for a clean end: the peer sees a client that has gone.
    return _found(connection, first)


def probe_of(tls: ssl.SSLObject) -> TlsProbe:
    """The same from a handshake that succeeded; before Python 3.13 without the issuers."""
    suite = tls.cipher()
    if sys.version_info >= (3, 13):
        shown = tls.get_unverified_chain()
    else:
        shown = [tls.getpeercert(binary_form=True)]
    chain = tuple(x509.load_der_x509_certificate(one) for one in shown if one)
    return TlsProbe(
        speaks_tls=True, version=tls.version() or "", suite=suite[0] if suite else "", chain=chain
    )


def _outgoing(connection: SSL.Connection) -> bytes:
    try:
        return connection.bio_read(_READ_BYTES)
    except SSL.WantReadError:
        return b""


def _found(connection: SSL.Connection, first: bytes) -> TlsProbe:
    chain = connection.get_peer_cert_chain(as_cryptography=True) or []
    # TLS records begin with their type: 21 is an alert, 22 a handshake.
    speaks_tls = first in (b"\x15", b"\x16")
    if not chain:
        return TlsProbe(speaks_tls)
    return TlsProbe(
        speaks_tls,
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        tuple(chain),
    )
