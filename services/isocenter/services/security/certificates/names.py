"""Names of certificates, and the AE titles that they bind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from isocenter.engine.ae import is_ae_title
from isocenter.services.security.certificates.issued import (
    SERVER_NAME,
    CertificateError,
    Issued,
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Names whose files would stand beside the CA's own.
_RESERVED: Final = frozenset({"ca", "crl", "issued"})


def similar_name(record: Sequence[Issued], given: str, action: str) -> str:
    """For whoever gave an AE title, or other letters, in the place of a name; empty: no idea."""
    for one in reversed(record):
        if given in (one.common_name, one.name) or given.lower() == one.name.lower():
            if one.name == given:
                return ""
            return (
                f"the certificate for AE title {one.common_name} is called {one.name}: "
                f"isocenter certs {action} {one.name}"
            )
    return ""


def check_names(name: str, common_name: str) -> None:
    """Raise `CertificateError` where they can be no name of a certificate and no AE title."""
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED or name == SERVER_NAME:
        raise CertificateError(
            f"{name!r} cannot name a certificate: letters, digits, dot, dash and underscore, "
            f"up to 64, and not {', '.join(sorted({*_RESERVED, SERVER_NAME}))}"
        )
    if not is_ae_title(common_name):
        raise CertificateError(
            f"{common_name!r} is not an AE title (1 to 16 characters, no backslash); "
            "give it with --ae-title AET"
        )
