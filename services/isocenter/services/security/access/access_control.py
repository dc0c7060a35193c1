"""The judge at the door: policy, settings and user identity make one answer to A-ASSOCIATE-RQ.

What a peer hears is a result, a source and a reason of PS3.8 Table 9-21 and nothing more; the
log and the notice get the words, and the command that would admit it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import CALLING_AE_TITLE_NOT_RECOGNIZED
from isocenter.engine.pdu import AssociateRequest
from isocenter.services.association.access import NO_REASON_GIVEN, AccessPolicy, Turned
from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.grants import Grant, Rights, command
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.policy_file import CurrentPolicy
from isocenter.services.security.access.user_identity import (
    Identified,
    NotIdentified,
    UserIdentities,
)

log = logging.getLogger("isocenter.access")

#: How old the policy may be that an operation of a standing association is judged by.
_POLICY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Who is at the door, before it says its name.

    Attributes:
        host: the address, without port.
        identity: whose certificate was verified; None: there was none.
    """

    host: str
    is_tls: bool = False
    identity: PeerIdentity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Somebody may associate.

    Attributes:
        user: who the user identity item proved it to be; empty: nobody.
        response: for the user identity sub-item of A-ASSOCIATE-AC (59H); None: none is sent.
    """

    grant: Grant
    user: str = ""
    response: bytes | None = None


class AccessControl:
    """Admits callers, and says what they may do.

    Args:
        settings: the rules that hold without a policy, and beside it.
        current: the policy; None: there is none.
        identities: proves users; None: user identity items are ignored.
    """

    def __init__(
        self,
        settings: AccessPolicy,
        current: CurrentPolicy | None = None,
        identities: UserIdentities | None = None,
    ) -> None:
        self.settings = settings
        self.identities = identities
        self.current = current or CurrentPolicy(None)
        self._looked_at = -_POLICY_SECONDS

    @property
    def policy(self) -> Policy:
        """The policy, as it was a moment ago."""
        now = trio.current_time()
        if now - self._looked_at >= _POLICY_SECONDS:
            self._looked_at = now
            return self.current.refresh()
        return self.current.policy

    def refresh(self) -> Policy:
        """Look at the policy's file now.

        Raises:
            PolicyError: it cannot be used; the policy in use stays.
        """
        policy = self.current.refresh()
        if self.current.fault:
            raise PolicyError(self.current.fault)
        return policy

    async def admit(self, request: AssociateRequest, arrival: Arrival) -> Admitted | Turned:
        """Whether, and for what, *request* may have its association."""
        policy = self.current.refresh()
        turned = self.judge(request, arrival, policy)
        if turned is not None:
            return self._answer(turned)
        user: User | None = None
        response: bytes | None = None
        if self.identities is not None:
            match await self.identities.identify(
                request.user_information.user_identity, policy, arrival.host
            ):
                case Identified(user, response):
                    pass
                case NotIdentified(reject, why, cure):
                    return self._answer(Turned(reject, why, cure))
                case None:
                    pass
        return Admitted(
            grant=Grant(self._rights(request, arrival, user.name if user else "")),
            user=user.name if user else "",
            response=response,
        )

    def judge(
        self, request: AssociateRequest, arrival: Arrival, policy: Policy | None = None
    ) -> Turned | None:
        """None to admit; whoever proves to be a user is not asked here."""
        policy = self.current.policy if policy is None else policy
        turned = self.settings.judge_titles(request)
        if turned is not None:
            return turned
        if not policy.entities:
            return self.settings.judge_certificate(request, arrival.identity)
        return self._judge_entity(
            policy.entity(request.calling_ae_title), request.calling_ae_title, arrival
        )

    def _judge_entity(
        self, entity: ApplicationEntity | None, title: str, arrival: Arrival
    ) -> Turned | None:
        identity = arrival.identity
        if entity is None:
            return _turned(
                f"calling AE title {title!r} is not in the policy",
                command("add", title, *(_as_options(identity) or ("--address", arrival.host))),
            )
        if not entity.active:
            return _turned(
                f"AE title {title!r} is denied by the policy", command("allow", entity.ae_title)
            )
        if entity.needs_tls and not arrival.is_tls:
            return _turned(
                f"{title!r} may call over TLS only, and came in the clear; switch TLS on at the "
                "peer (+tls)"
            )
        if not entity.comes_from(arrival.host):
            return _turned(
                f"{title!r} may not call from {arrival.host}",
                command("allow", entity.ae_title, "--address", arrival.host),
            )
        owns = (
            any(rule.fits(identity) for rule in entity.certificates)
            if entity.certificates and identity is not None
            else not entity.certificates
            and (
                identity is None
                or not self.settings.certificate_owns_ae_title
                or owns_ae_title(identity, title)
            )
        )
        if owns:
            return None
        if identity is None:
            return _turned(f"{title!r} needs a certificate, and showed none; issue one for it")
        return _turned(
            f"the certificate of {identity.common_name!r} does not own the calling AE title "
            f"{title!r}",
            command("allow", entity.ae_title, *_as_options(identity)),
        )

    def _rights(
        self, request: AssociateRequest, arrival: Arrival, user_name: str
    ) -> Callable[[], Rights | None]:
        """The rights by the policy of the moment, worked out once for each policy."""
        known: Policy | None = None
        rights: Rights | None = None

        def now() -> Rights | None:
            nonlocal known, rights
            policy = self.policy
            if policy is not known:
                rights = self.rights(request, arrival, user_name, policy)
                known = policy
            return rights

        return now

    def rights(
        self, request: AssociateRequest, arrival: Arrival, user_name: str, policy: Policy
    ) -> Rights | None:
        """What the caller may do by *policy*; None: everything."""
        users_only = self.identities is not None and self.identities.rules.required
        user = policy.user(user_name) if user_name else None
        title = request.calling_ae_title
        turned = self.judge(request, arrival, policy)
        why = turned.text if turned is not None else ""
        if user_name and (user is None or not user.active):
            why = why or "the user was deactivated; activate it with isocenter user activate"
        if not policy.entities and not (users_only and user is not None):
            return Rights(ae_title=title, permissions={}, turned_away=why) if why else None
        entity = policy.entity(title) if policy.entities else None
        return Rights(
            ae_title=entity.ae_title if entity else title,
            permissions=policy.permissions(entity, user),
            sop_classes=entity.sop_classes if entity else frozenset(),
            turned_away=why,
        )

    def _answer(self, turned: Turned) -> Turned:
        if self.settings.uniform_rejection:
            return Turned(NO_REASON_GIVEN, turned.why, turned.cure)
        return turned


def _turned(why: str, cure: str = "") -> Turned:
    return Turned(CALLING_AE_TITLE_NOT_RECOGNIZED, why, cure)


def _as_options(identity: PeerIdentity | None) -> tuple[str, ...]:
    return () if identity is None else ("--fingerprint", identity.fingerprint)
