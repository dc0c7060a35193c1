"""Scopes, which narrow what a token is good for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SEARCH: Final = "dicomweb.search"
READ: Final = "dicomweb.read"
WRITE: Final = "dicomweb.write"
ADMIN: Final = "pacs.admin"
METRICS: Final = "pacs.metrics"

#: Each with what it is for, as ``isocenter token add --help`` says it.
SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        SEARCH: "searches (QIDO-RS), worklist",
        READ: "retrieves (WADO-RS, WADO-URI): objects, metadata, pictures",
        WRITE: "stores (STOW-RS), commitment, performed procedure steps",
        ADMIN: "what only administrators do, as deleting",
        METRICS: "the figures of monitoring, which need this very scope",
    }
)


def scopes_in(claim: object) -> frozenset[str]:
    """Those of ours in the ``scope`` of a token (RFC 8693 4.2: separated by spaces; some issuers
    write a list)."""
    words = claim if isinstance(claim, list) else str(claim).split()
    return frozenset(map(str, words)) & frozenset(SCOPES)
