"""Versions, suites and groups that a TLS context really offers.

Versions and suites are asked of the context.  Groups and signature algorithms Python
cannot tell (before 3.15), so they are read from the ClientHello that the same library
makes for the same profile (RFC 8446 4.1.2).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from struct import iter_unpack, unpack_from
from typing import Final

from isocenter.services.net.tls.contexts import TlsProfile, bare_context

_SUPPORTED_GROUPS: Final = 10
_SIGNATURE_ALGORITHMS: Final = 13
#: Record header (5), handshake header (4), version (2), random (32).
_SESSION_ID_AT: Final = 43

#: RFC 8446 4.2.7; hybrids: draft-ietf-tls-ecdhe-mlkem.
_GROUPS: Final = {
    0x0017: "P-256", 0x0018: "P-384", 0x0019: "P-521", 0x001D: "X25519", 0x001E: "X448",
    0x001F: "brainpoolP256r1", 0x0020: "brainpoolP384r1", 0x0021: "brainpoolP512r1",
    0x0100: "ffdhe2048", 0x0101: "ffdhe3072", 0x0102: "ffdhe4096", 0x0103: "ffdhe6144",
    0x0104: "ffdhe8192",
    0x11EB: "SecP256r1MLKEM768", 0x11EC: "X25519MLKEM768", 0x11ED: "SecP384r1MLKEM1024",
}  # fmt: skip
#: RFC 8446 4.2.3; RFC 5246 7.4.1.4.1 for the others.
_SIGNATURES: Final = {
    0x0403: "ECDSA-P256-SHA256", 0x0503: "ECDSA-P384-SHA384", 0x0603: "ECDSA-P521-SHA512",
    0x0807: "Ed25519", 0x0808: "Ed448",
    0x0804: "RSA-PSS-RSAE-SHA256", 0x0805: "RSA-PSS-RSAE-SHA384", 0x0806: "RSA-PSS-RSAE-SHA512",
    0x0809: "RSA-PSS-PSS-SHA256", 0x080A: "RSA-PSS-PSS-SHA384", 0x080B: "RSA-PSS-PSS-SHA512",
    0x0401: "RSA-SHA256", 0x0501: "RSA-SHA384", 0x0601: "RSA-SHA512",
    0x0301: "RSA-SHA224", 0x0303: "ECDSA-SHA224", 0x0302: "DSA-SHA224",
    0x0402: "DSA-SHA256", 0x0502: "DSA-SHA384", 0x0602: "DSA-SHA512",
    0x081A: "ECDSA-brainpoolP256r1-SHA256", 0x081B: "ECDSA-brainpoolP384r1-SHA384",
    0x081C: "ECDSA-brainpoolP512r1-SHA512",
    0x0904: "ML-DSA-44", 0x0905: "ML-DSA-65", 0x0906: "ML-DSA-87",
}  # fmt: skip


def suites_of(context: ssl.SSLContext, version: str) -> list[str]:
    """The suites that *context* has for ``TLSv1.2`` or ``TLSv1.3``, best first."""
    return [suite["name"] for suite in context.get_ciphers() if suite["protocol"] == version]


def offered(profile: TlsProfile) -> tuple[list[str], list[str]]:
    """Names of the groups and of the signature algorithms that are offered, best first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = bare_context(ssl.PROTOCOL_TLS_CLIENT, profile)
    context.check_hostname = False
    connection = context.wrap_bio(incoming, outgoing)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    found = dict(_extensions(outgoing.read()))
    return (
        _names(found.get(_SUPPORTED_GROUPS, b"\0\0"), _GROUPS),
        _names(found.get(_SIGNATURE_ALGORITHMS, b"\0\0"), _SIGNATURES),
    )


def _extensions(hello: bytes) -> Iterator[tuple[int, bytes]]:
    """The extensions of a ClientHello of our own library, in one record."""
    at = _SESSION_ID_AT
    at += 1 + hello[at]
    at += 2 + unpack_from(">H", hello, at)[0]  # suites
    at += 1 + hello[at]  # compression methods
    at += 2
    while at < len(hello):
        kind, length = unpack_from(">HH", hello, at)
        yield kind, hello[at + 4 : at + 4 + length]
        at += 4 + length


def _names(content: bytes, names: dict[int, str]) -> list[str]:
    return [names.get(code, f"{code:04x}") for (code,) in iter_unpack(">H", content[2:])]


def describe_profile(context: ssl.SSLContext, profile: TlsProfile) -> str:
    """The profile as *context* has it, for ``isocenter serve --check-config``."""
    groups, signatures = offered(profile)
    old, new = suites_of(context, "TLSv1.2"), suites_of(context, "TLSv1.3")
    only_new = profile.minimum >= ssl.TLSVersion.TLSv1_3
    lines = [
        f"TLS profile {profile.name} ({profile.clause}{', retired' if profile.is_retired else ''})",
        f"  versions             {'TLS 1.3' if only_new else 'TLS 1.2, TLS 1.3'}",
        f"  suites of TLS 1.3    {', '.join(new)}",
    ]
    if not only_new:
        lines.append(f"  suites of TLS 1.2    {', '.join(old)}")
    lines.append(f"  groups               {', '.join(groups)}")
    lines.append(f"  signatures           {', '.join(signatures)}")
    return "\n".join(lines)
