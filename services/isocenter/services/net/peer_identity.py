"""Identity of a peer, as its verified certificate states it."""

from __future__ import annotations

from dataclasses import field

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Identity of a peer, as a verified certificate states it.

    Attributes:
        common_name: of the subject, the most specific one; None: it has none.
        subject: as RFC 4514 writes it.
        subject_alternative_names: DNS names, addresses, URIs, e-mail addresses, as text.
        fingerprint: SHA-256 of the certificate, 64 lower-case hexadecimal digits.
        serial_number: as its issuer counts.
        issuer: the subject of the CA that signed it, as RFC 4514 writes it.
        ends_at: when it expires, in seconds since 1970; None: nobody knows.
    """

    common_name: str | None
    subject: str
    subject_alternative_names: tuple[str, ...]
    fingerprint: str
    serial_number: int
    issuer: str = ""
    ends_at: float | None = field(default=None, compare=False)


def owns_ae_title(identity: PeerIdentity, ae_title: str) -> bool:
    """Whether the certificate was issued to *ae_title*: its common name, or an alternative
    name, is the same text.  Case counts (PS3.5 6.2), spaces around an AE title do not."""
    wanted = ae_title.strip(" ")
    return wanted != "" and (
        identity.common_name == wanted or wanted in identity.subject_alternative_names
    )
