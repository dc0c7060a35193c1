"""Who may associate: AE titles, and the certificate that owns them (PS3.8 Table 9-21).

Identity is what the certificate says, not what the AE title claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from isocenter.engine.pdu import AssociateReject, AssociateRequest
from isocenter.services.matching import wildcard_match
from isocenter.services.tls import PeerIdentity, owns_ae_title

CALLING_AE_TITLE_NOT_RECOGNIZED: Final = AssociateReject(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED: Final = AssociateReject(1, 1, 7)
LOCAL_LIMIT_EXCEEDED: Final = AssociateReject(2, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """The rules of one listener.

    Attributes:
        ae_titles: what we may be called; empty: anything.
        allow: calling AE titles admitted, ``*`` and ``?`` as wild cards; empty: all.
        certificate_owns_ae_title: whether a TLS peer's certificate must carry the
            calling AE title as its common name or an alternative name of the same text.
    """

    ae_titles: frozenset[str] = frozenset()
    allow: tuple[str, ...] = ()
    certificate_owns_ae_title: bool = True

    def judge(
        self, request: AssociateRequest, identity: PeerIdentity | None
    ) -> tuple[AssociateReject, str] | None:
        """None to admit; else how to reject, and for the log why and what would help."""
        calling, called = request.calling_ae_title, request.called_ae_title
        if self.ae_titles and called not in self.ae_titles:
            return (
                CALLED_AE_TITLE_NOT_RECOGNIZED,
                f"called AE title {called!r} is not ours; we are {_either(self.ae_titles)}",
            )
        if self.allow and not any(wildcard_match(pattern, calling) for pattern in self.allow):
            return (
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                f"calling AE title {calling!r} is not on the list; admit it with --allow {calling}",
            )
        if (
            identity is not None
            and self.certificate_owns_ae_title
            and not owns_ae_title(identity, calling)
        ):
            return (
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                (
                    f"the certificate of {identity.common_name!r} does not own the calling AE "
                    f"title {calling!r}; issue one for it, or set tls.identity to any"
                ),
            )
        return None


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
