"""Who may associate by the settings alone: AE titles, and the certificate that owns them
(PS3.8 Table 9-21).

Identity is what the certificate says, not what the AE title claims.  A policy
(`isocenter.services.security.access`) goes further.
"""

from __future__ import annotations

from typing import Final

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
)
from isocenter.engine.pdu import AssociateReject, AssociateRequest
from isocenter.services.dicom.wildcards import wildcard_match
from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title

NO_REASON_GIVEN: Final = AssociateReject(1, 1, 1)
TEMPORARY_CONGESTION: Final = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Final = AssociateReject(2, 3, 2)


@dataclass(frozen=True, slots=True)
class Turned:
    """Somebody is turned away.

    Attributes:
        reject: what the peer hears.
        why: for log and audit, with what would help, unless *cure* says it.
        cure: the command that would admit the caller; empty: there is none.
    """

    reject: AssociateReject
    why: str
    cure: str = ""

    @property
    def text(self) -> str:
        """Why, and the cure."""
        return f"{self.why}; admit it with {self.cure}" if self.cure else self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """The rules of one listener.

    Attributes:
        ae_titles: what we may be called; empty: anything.
        allow: calling AE titles admitted, ``*`` and ``?`` as wild cards; empty: all.
        certificate_owns_ae_title: whether a TLS peer's certificate must carry the
            calling AE title as its common name or an alternative name of the same text.
        uniform_rejection: whoever is turned away hears 1/1/1 (no reason given), also for a
            while only, so that nobody learns which titles there are.
    """

    ae_titles: frozenset[str] = frozenset()
    allow: tuple[str, ...] = ()
    certificate_owns_ae_title: bool = True
    uniform_rejection: bool = False

    def judge_titles(self, request: AssociateRequest) -> Turned | None:
        """Whether both AE titles are known; None: they are."""
        calling, called = request.calling_ae_title, request.called_ae_title
        for title, which, reject in (
            (called, "called", CALLED_AE_TITLE_NOT_RECOGNIZED),
            (calling, "calling", CALLING_AE_TITLE_NOT_RECOGNIZED),
        ):
            if not is_ae_title(title):
                fault = f"{title!r} is none" if title else "is empty"
                return Turned(
                    reject,
                    f"{which} AE title {fault} (PS3.8 9.3.2); configure one at the peer: 1 to 16 "
                    "characters of ASCII, no backslash",
                )
        if self.ae_titles and called not in self.ae_titles:
            return Turned(
                CALLED_AE_TITLE_NOT_RECOGNIZED,
                f"called AE title {called!r} is not ours; we are {_either(self.ae_titles)}",
            )
        if self.allow and not any(wildcard_match(pattern, calling) for pattern in self.allow):
            return Turned(
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                f"calling AE title {calling!r} is not on the list; admit it with --allow {calling}",
            )
        return None

    def judge_certificate(
        self, request: AssociateRequest, identity: PeerIdentity | None
    ) -> Turned | None:
        """Whether a certificate that was shown owns the calling AE title; None: it does."""
        calling = request.calling_ae_title
        if (
            identity is None
            or not self.certificate_owns_ae_title
            or owns_ae_title(identity, calling)
        ):
            return None
        return Turned(
            CALLING_AE_TITLE_NOT_RECOGNIZED,
            f"the certificate of {identity.common_name!r} does not own the calling AE title "
            f"{calling!r}; issue one for it, or set tls.identity to any",
        )


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
