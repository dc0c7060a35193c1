"""Access control of a server: its interface, and rules by AE title and certificate.

`AeTitleRules` admits by the settings alone (PS3.8 Table 9-21): identity is what the
certificate says, not what the AE title claims.  A policy
(`isocenter.services.security.access`) implements the same interface and goes further.
"""

from __future__ import annotations

from typing import Final, Protocol

from isocenter.engine.ae import is_ae_title
from isocenter.engine.dimse.message_codec import Request
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
)
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.dicom.wildcards import wildcard_match
from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title

NO_REASON_GIVEN: Final = AssociateReject(1, 1, 1)
TEMPORARY_CONGESTION: Final = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Final = AssociateReject(2, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOrigin:
    """Where a connection comes from, before its peer has said its name.

    Attributes:
        host: the address, without port.
        identity: whose certificate was verified; None: there was none.
    """

    host: str
    is_tls: bool = False
    identity: PeerIdentity | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Somebody may not associate.

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


@dataclass(frozen=True, slots=True)
class RefusedContext:
    """A presentation context that was refused.

    Attributes:
        operation: what it would have been for.
        why: for log and audit, with the cure.
    """

    operation: str
    abstract_syntax: str
    why: str


class Grant(Protocol):
    """The rights of one association."""

    @property
    def project(self) -> str:
        """Name of the project of de-identification under which it is given objects, and nothing
        else; empty: it is given them as they are."""
        ...

    def refusal(self, abstract_syntax: str, request: Request) -> str:
        """Why the peer may not have *request* performed; empty: it may."""
        ...

    def is_given(self, operation: str) -> bool:
        """Whether a policy names the caller, and gives it what that DIMSE operation needs; where
        there is no policy, everybody may ask for everything, and nobody was given anything."""
        ...

    def restrict_contexts(
        self, request: AssociateRequest, accept: AssociateAccept
    ) -> tuple[AssociateAccept, tuple[RefusedContext, ...]]:
        """Of *accept*, what the peer may use; the other contexts get result 1 (user-rejection)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Somebody may associate.

    Attributes:
        grant: what it may have performed; None: everything.
        user: who the user identity item proved it to be, or else who is known to be behind its AE
            title; empty: nobody.
        response: for the user identity sub-item of A-ASSOCIATE-AC (59H); None: none is sent.
    """

    grant: Grant | None = None
    user: str = ""
    response: bytes | None = None


class AccessControl(Protocol):
    """Admits callers, and says what they may do."""

    async def admit(
        self, request: AssociateRequest, origin: ConnectionOrigin
    ) -> Admitted | Rejected:
        """Whether, and for what, *request* may have its association."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AeTitleRules:
    """Rules by AE title and certificate: who is admitted by them may do everything.

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

    async def admit(
        self, request: AssociateRequest, origin: ConnectionOrigin
    ) -> Admitted | Rejected:
        """Whether *request* may have its association."""
        rejected = self.check_titles(request) or self.check_certificate(request, origin.identity)
        return self.as_told(rejected) if rejected else Admitted()

    def as_told(self, rejected: Rejected) -> Rejected:
        """*rejected* as the peer may know it; why it was stays for the log."""
        if self.uniform_rejection:
            return Rejected(NO_REASON_GIVEN, rejected.why, rejected.cure)
        return rejected

    def check_titles(self, request: AssociateRequest) -> Rejected | None:
        """Whether both AE titles are known; None: they are."""
        calling, called = request.calling_ae_title, request.called_ae_title
        for title, which, reject in (
            (called, "called", CALLED_AE_TITLE_NOT_RECOGNIZED),
            (calling, "calling", CALLING_AE_TITLE_NOT_RECOGNIZED),
        ):
            if not is_ae_title(title):
                fault = f"{title!r} is none" if title else "is empty"
                return Rejected(
                    reject,
                    f"{which} AE title {fault} (PS3.8 9.3.2); configure one at the peer: 1 to 16 "
                    "characters of ASCII, no backslash",
                )
        if self.ae_titles and called not in self.ae_titles:
            return Rejected(
                CALLED_AE_TITLE_NOT_RECOGNIZED,
                f"called AE title {called!r} is not ours; we are {_either(self.ae_titles)}",
            )
        if self.allow and not any(wildcard_match(pattern, calling) for pattern in self.allow):
            return Rejected(
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                f"calling AE title {calling!r} is not on the list; admit it with --allow {calling}",
            )
        return None

    def check_certificate(
        self, request: AssociateRequest, identity: PeerIdentity | None
    ) -> Rejected | None:
        """Whether a certificate that was shown owns the calling AE title; None: it does."""
        calling = request.calling_ae_title
        if (
            identity is None
            or not self.certificate_owns_ae_title
            or owns_ae_title(identity, calling)
        ):
            return None
        return Rejected(
            CALLING_AE_TITLE_NOT_RECOGNIZED,
            f"the certificate of {identity.common_name!r} does not own the calling AE title "
            f"{calling!r}; issue one for it, or set tls.identity to any",
        )


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
