"""Names of TLS profiles (PS3.15 Annex B): ours, those of others, retired ones."""

from __future__ import annotations

from typing import Final

from isocenter.services.net.tls.contexts import PROFILES

#: Other names, without regard to case, ``_`` and spaces → ours.
_ALIASES: Final = {
    "bcp195-basic": "basic",
    "bcp195-nondowngrading": "non-downgrading",
    "bcp195-non-downgrading": "non-downgrading",
    "bcp195-nd": "non-downgrading",
    "bcp195-extended": "extended",
    "bcp195-ex": "extended",
    "8996": "bcp195",
    "rfc8996": "bcp195",
    "bcp195-rfc8996": "bcp195",
    "8996-mod": "bcp195-modified",
    "rfc8996-modified": "bcp195-modified",
    "bcp195-rfc8996-modified": "bcp195-modified",
    "tls1.3": "tls13",
}
#: Profiles that the standard once had, or others have, and nobody should use → why not.
_GONE: Final = {
    "iscl": "ISCL (PS3.15 B.2) is retired",
    "basic-tls": "the Basic TLS profile (PS3.15 B.1, 3DES) is retired",
    "3des": "the Basic TLS profile (PS3.15 B.1, 3DES) is retired",
    "aes": "the AES TLS profile (PS3.15 B.3, TLS 1.0 with CBC) is retired",
    "aes-tls": "the AES TLS profile (PS3.15 B.3, TLS 1.0 with CBC) is retired",
    "null": "a profile without encryption protects nothing",
    "tls10": "TLS 1.0 is not secure (RFC 8996)",
    "tls1.0": "TLS 1.0 is not secure (RFC 8996)",
    "tls11": "TLS 1.1 is not secure (RFC 8996)",
    "tls1.1": "TLS 1.1 is not secure (RFC 8996)",
}
_SUCCESSOR: Final = "bcp195 (PS3.15 B.12), or bcp195-modified (B.13)"


def profile_named(text: str) -> str:
    """The key of `PROFILES` that *text* means.

    Raises:
        ValueError: there is no such profile, or it is gone; then the message names the one to use.
    """
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    name = _ALIASES.get(name, name)
    if name in PROFILES:
        return name
    if name in _GONE:
        raise ValueError(f"{text!r}: {_GONE[name]}; use {_SUCCESSOR}")
    raise ValueError(f"there is no TLS profile {text!r}: {', '.join(PROFILES)}")


def warning_of(profile: str) -> str:
    """What should be known of a profile that is in use; empty: nothing."""
    found = PROFILES[profile]
    if not found.is_retired:
        return ""
    return f"the TLS profile {profile} ({found.clause}) is retired; its successor is {_SUCCESSOR}"
