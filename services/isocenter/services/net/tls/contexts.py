"""TLS contexts by the secure transport connection profiles of PS3.15 Annex B.

The profiles are those of PS3.15 by name.  What every context here has, whatever the
profile: TLS 1.2 at least; ephemeral elliptic-curve keys only, at OpenSSL's security
level 2 (RSA and DH keys of 2,048 bits, elliptic curves of 224, none below 256 is offered);
no compression, no renegotiation, no session tickets and so no early data; an end of
stream without close_notify is an error.

A context is never changed once it serves.  New certificates, keys and revocation lists
make a new context for the associations to come; those that exist keep theirs.

Not in here: reading certificates and the identities in them
(`isocenter.services.net.tls.certificates`), and making them
(`isocenter.services.security.certificates.authority`).
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.tls.certificates import (
    certificates_in,
    check_readable,
    check_validity,
    files_in,
    revocation_lists_in,
)
from isocenter.services.net.tls.errors import TlsFileError

#: Somebody else than the owner may do something with the file.
_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_GCM: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_CHACHA20: Final = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305")
_CCM: Final = ("ECDHE-ECDSA-AES256-CCM", "ECDHE-ECDSA-AES128-CCM")

#: OpenSSL's names of the suites of TLS 1.3 that it has switched on; Python cannot choose among
#: them, and need not: all three are allowed by every profile.
TLS_1_3_SUITES: Final = (
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
)


class ClientCertificates(Enum):
    """Whether a server asks for the certificate of its client."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TlsProfile:
    """A secure transport connection profile.

    Attributes:
        suites: of TLS 1.2, best first, in OpenSSL's names.
        clause: where it is described.
        is_retired: kept by name for old peers.
    """

    name: str
    clause: str
    minimum: ssl.TLSVersion
    suites: tuple[str, ...]
    is_retired: bool = False


PROFILES: Final = {
    profile.name: profile
    for profile in (
        TlsProfile("bcp195", "PS3.15 B.12", ssl.TLSVersion.TLSv1_2, _GCM),
        TlsProfile(
            "bcp195-modified", "PS3.15 B.13", ssl.TLSVersion.TLSv1_2, _GCM + _CHACHA20 + _CCM
        ),
        TlsProfile("tls13", "RFC 8446", ssl.TLSVersion.TLSv1_3, ()),
        TlsProfile("basic", "PS3.15 B.9", ssl.TLSVersion.TLSv1_2, _GCM + _CHACHA20, True),
        TlsProfile("non-downgrading", "PS3.15 B.10", ssl.TLSVersion.TLSv1_2, _GCM, True),
        TlsProfile("extended", "PS3.15 B.11", ssl.TLSVersion.TLSv1_2, _GCM, True),
    )
}
DEFAULT_PROFILE: Final = "bcp195"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where certificates and keys lie; all of them PEM.

    Attributes:
        certificate: our own, followed by intermediate ones.
        key: the private key of the first; readable by its owner only.
        ca: who may have signed the peer's certificate.
        crl: what of it was revoked, in a file or a folder of files; when given, a peer
            whose issuer has no current list in it is refused.  With a list of every CA
            in ``ca``, those between a peer and its root are judged, too.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    crl: Path | None = None
    key_password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Who writes a script gives text.
        for name in ("certificate", "key", "ca", "crl"):
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, Path(path))


def server_context(
    files: TlsFiles,
    profile: str = DEFAULT_PROFILE,
    client_certificates: ClientCertificates = ClientCertificates.REQUIRED,
    *,
    strict: bool = False,
    protocols: Sequence[str] = (),
) -> ssl.SSLContext:
    """What a listener shakes hands with.

    Args:
        profile: a key of `PROFILES`.
        protocols: what is spoken over it, the most wanted first (ALPN, RFC 7301).
        strict: refuse certificates that RFC 5280 would not have issued so (OpenSSL's
            X509_STRICT).  Ours pass; many hospital and test CAs leave out key usage
            or key identifiers and would not.

    Raises:
        TlsFileError: a file that is missing, unreadable, open to others, expired, or
            not what it should be.
        KeyError: no such profile.
    """
    if files.certificate is None or files.key is None:
        raise TlsFileError(
            None, "a TLS server needs a certificate and its key", "set tls.certificate and tls.key"
        )
    context = bare_context(ssl.PROTOCOL_TLS_SERVER, PROFILES[profile])
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    if protocols:
        context.set_alpn_protocols(list(protocols))
    _load_own(context, files)
    match client_certificates:
        case ClientCertificates.REQUIRED:
            context.verify_mode = ssl.CERT_REQUIRED
        case ClientCertificates.OPTIONAL:
            context.verify_mode = ssl.CERT_OPTIONAL
        case ClientCertificates.NONE:
            context.verify_mode = ssl.CERT_NONE
            return context
    if files.ca is None:
        raise TlsFileError(
            None,
            "client certificates cannot be verified without a CA",
            "set tls.ca, or tls.client_certificates to none",
        )
    _load_trust(context, files, strict)
    return context


def client_context(
    files: TlsFiles,
    profile: str = DEFAULT_PROFILE,
    *,
    check_hostname: bool = True,
    verify: bool = True,
    strict: bool = False,
) -> ssl.SSLContext:
    """What an association requestor shakes hands with.

    Args:
        files: ``certificate`` and ``key`` where the peer asks for them; without ``ca``
            the system's own CAs are trusted.
        check_hostname: the certificate must be for the host that we connected to;
            the handshake then needs ``server_hostname``.
        verify: False admits any certificate and protects against nobody who can
            redirect the connection.

    Raises:
        TlsFileError: as for `server_context`.
        KeyError: no such profile.
    """
    context = bare_context(ssl.PROTOCOL_TLS_CLIENT, PROFILES[profile])
    if files.certificate is not None or files.key is not None:
        _load_own(context, files)
    context.check_hostname = check_hostname and verify
    if not verify:
        context.verify_mode = ssl.CERT_NONE
        return context
    context.verify_mode = ssl.CERT_REQUIRED
    if files.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _load_trust(context, files, strict)
    return context


def bare_context(protocol: int, profile: TlsProfile) -> ssl.SSLContext:
    """Versions, suites and options of *profile*, without any certificate."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = profile.minimum
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    # The list also has to hold something when only TLS 1.3 can be negotiated.
    context.set_ciphers("@SECLEVEL=2:" + ":".join(profile.suites or _GCM))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    # A cut connection must not look like an end that the peer meant.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    certificate, key = files.certificate, files.key
    if certificate is None or key is None:
        raise TlsFileError(
            certificate or key, "a certificate and its key go together", "give both, or neither"
        )
    check_readable(certificate)
    check_private(key)
    check_validity(certificate)
    password_asked = False

    def password() -> str:
        # Without this, OpenSSL asks on the terminal and the server waits there.
        nonlocal password_asked
        password_asked = True
        return files.key_password or ""

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason == "KEY_VALUES_MISMATCH":
            fault, cure = f"not the key of {certificate}", "give the pair that belongs together"
        elif reason.endswith("KEY_TOO_SMALL"):
            fault, cure = "the key is too short", "use RSA with 2048 bits, or an elliptic curve"
        elif password_asked:
            given = "the password is wrong" if files.key_password else "the key has a password"
            fault, cure = given, "set tls.key_password (ISOCENTER__TLS__KEY_PASSWORD_FILE)"
        else:
            fault, cure = "not a private key in PEM", "convert it, e.g. with openssl pkey"
        raise TlsFileError(key, fault, cure) from error


def _load_trust(context: ssl.SSLContext, files: TlsFiles, strict: bool) -> None:
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST
    if strict:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    if files.ca is not None:
        _load_verify(context, files.ca, "CA certificate")
        if not context.get_ca_certs():
            raise TlsFileError(
                files.ca, "holds no CA certificate", "give the certificate of whoever signs"
            )
    if files.crl is not None:
        paths = files_in(files.crl)
        if not paths:
            raise TlsFileError(files.crl, "the folder is empty", "put the lists into it, or unset")
        for path in paths:
            before = context.cert_store_stats()["crl"]
            _load_verify(context, path, "certificate revocation list")
            if context.cert_store_stats()["crl"] == before:
                raise TlsFileError(
                    path, "holds no certificate revocation list", "give it as PEM (X509 CRL)"
                )
        listed = {one.issuer for path in paths for one in revocation_lists_in(path)}
        is_whole = files.ca is not None and all(
            one.subject in listed for one in certificates_in(files.ca)
        )
        context.verify_flags |= (
            ssl.VERIFY_CRL_CHECK_CHAIN if is_whole else ssl.VERIFY_CRL_CHECK_LEAF
        )


def _load_verify(context: ssl.SSLContext, path: Path, what: str) -> None:
    check_readable(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsFileError(path, f"holds no {what} in PEM", "convert it to PEM") from error


def check_private(key: Path) -> None:
    """That *key* exists, can be read by us, and by nobody else.

    Raises:
        TlsFileError: it is not so.

    Windows has no such mode bits; there only readability is checked.
    """
    check_readable(key)
    if os.name == "posix" and key.stat().st_mode & _FOR_OTHERS:
        raise TlsFileError(key, "the private key is open to others", f"chmod 600 {key}")
