"""Access control: accepts or rejects an A-ASSOCIATE-RQ by policy, settings and user identity.

What a peer hears is a result, a source and a reason of PS3.8 Table 9-21 and nothing more; the
log and the notice get the words, and the command that would admit it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from isocenter.engine.negotiation import CALLING_AE_TITLE_NOT_RECOGNIZED
from isocenter.engine.pdu import AssociateRequest
from isocenter.services.association.access import Admitted, AeTitleRules, ConnectionOrigin, Rejected
from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.grants import PolicyGrant, Rights, ae_command
from isocenter.services.security.access.permissions import NO_OWN_NEEDS, OwnNeeds
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.policy_file import CurrentPolicy
from isocenter.services.security.access.user_identity import (
    UserIdentified,
    UserIdentities,
    UserRejected,
)

log = logging.getLogger("isocenter.access")

#: How old the policy may be that an operation of a standing association is judged by.
_POLICY_SECONDS: Final = 1.0


class PolicyAccessControl:
    """`AccessControl` by a policy, the settings and user identity.

    Args:
        settings: the rules that hold without a policy, and beside it.
        current: the policy; None: there is none.
        identities: proves users; None: user identity items are ignored.
        own_needs: of SOP classes that say themselves what is asked for on them.
        enforcement: when the policy decides.
    """

    def __init__(
        self,
        settings: AeTitleRules,
        current: CurrentPolicy | None = None,
        identities: UserIdentities | None = None,
        own_needs: OwnNeeds = NO_OWN_NEEDS,
        enforcement: Enforcement = Enforcement.AUTO,
    ) -> None:
        self.settings = settings
        self.enforcement = enforcement
        self.identities = identities
        self._own_needs = own_needs
        self.current = current or CurrentPolicy(None)
        self._looked_at = -_POLICY_SECONDS
        #: Of the loop that asks first.
        self._now: Callable[[], float] | None = None

    @property
    def policy(self) -> Policy:
        """The policy, as it was a moment ago."""
        if self._now is None:
            self._now = trio.lowlevel.current_clock().current_time
        now = self._now()
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

    async def admit(
        self, request: AssociateRequest, origin: ConnectionOrigin
    ) -> Admitted | Rejected:
        """Whether, and for what, *request* may have its association."""
        policy = self.current.refresh()
        rejected = self.check(request, origin, policy)
        if rejected is not None:
            return self.settings.as_told(rejected)
        user: User | None = None
        response: bytes | None = None
        if self.identities is not None:
            match await self.identities.identify(
                request.user_information.user_identity, policy, origin.host
            ):
                case UserIdentified(user, response):
                    pass
                case UserRejected(reject, why, cure):
                    return self.settings.as_told(Rejected(reject, why, cure))
                case None:
                    pass
        name = user.name if user else ""
        # They are as good as the policy that has just been asked.
        rights = CachedRights(self, request, origin, name)
        now = self.permitted(request, name, policy)
        if now is not None and now.turned_away:
            return self.settings.as_told(_rejected(now.turned_away))
        rights.take(policy, now)
        return Admitted(
            grant=PolicyGrant(rights.current),
            user=name or self._behind(request.calling_ae_title, policy),
            response=response,
        )

    def enforces(self, policy: Policy) -> bool:
        """Whether *policy* decides who may associate, and for what."""
        return self.enforcement.holds(bool(policy.entities))

    def _behind(self, title: str, policy: Policy) -> str:
        """The name of the user behind an AE title; empty: nobody is known."""
        entity = policy.entity(title) if self.enforces(policy) else None
        return entity.user if entity is not None else ""

    def check(
        self, request: AssociateRequest, origin: ConnectionOrigin, policy: Policy | None = None
    ) -> Rejected | None:
        """None to admit; whoever proves to be a user is not asked here."""
        policy = self.current.policy if policy is None else policy
        rejected = self.settings.check_titles(request)
        if rejected is not None:
            return rejected
        if not self.enforces(policy):
            return self.settings.check_certificate(request, origin.identity)
        return self._check_entity(
            policy.entity(request.calling_ae_title), request.calling_ae_title, origin
        )

    def _check_entity(
        self, entity: ApplicationEntity | None, title: str, origin: ConnectionOrigin
    ) -> Rejected | None:
        identity = origin.identity
        if entity is None:
            return _rejected(
                f"calling AE title {title!r} is not in the policy",
                ae_command("add", title, *(_as_options(identity) or ("--address", origin.host))),
            )
        if not entity.active:
            return _rejected(
                f"AE title {title!r} is denied by the policy", ae_command("allow", entity.ae_title)
            )
        if entity.needs_tls and not origin.is_tls:
            return _rejected(
                f"{title!r} may call over TLS only, and came in the clear; switch TLS on at the "
                "peer (+tls)"
            )
        if not entity.comes_from(origin.host):
            return _rejected(
                f"{title!r} may not call from {origin.host}",
                ae_command("allow", entity.ae_title, "--address", origin.host),
            )
        owns = (
            any(rule.matches(identity) for rule in entity.certificates)
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
            return _rejected(f"{title!r} needs a certificate, and showed none; issue one for it")
        return _rejected(
            f"the certificate of {identity.common_name!r} does not own the calling AE title "
            f"{title!r}",
            ae_command("allow", entity.ae_title, *_as_options(identity)),
        )

    def rights(
        self, request: AssociateRequest, origin: ConnectionOrigin, user_name: str, policy: Policy
    ) -> Rights | None:
        """What the caller may do by *policy*; None: everything."""
        rejected = self.check(request, origin, policy)
        return self.permitted(request, user_name, policy, rejected.text if rejected else "")

    def permitted(
        self, request: AssociateRequest, user_name: str, policy: Policy, why: str = ""
    ) -> Rights | None:
        """As `rights`, of a caller who was checked.

        Args:
            why: it would be turned away now; empty: it would not.
        """
        users_only = self.identities is not None and self.identities.rules.required
        user = policy.user(user_name) if user_name else None
        title = request.calling_ae_title
        if user_name and (user is None or not user.active):
            why = why or "the user was deactivated; activate it with isocenter user activate"
        is_enforced = self.enforces(policy)
        if not is_enforced and not (users_only and user is not None):
            return Rights(ae_title=title, permissions={}, turned_away=why) if why else None
        entity = policy.entity(title) if is_enforced else None
        if not user_name and entity is not None and not policy.is_admitted(entity):
            why = why or (
                f"the user behind {title!r} was deactivated; activate it with isocenter user "
                f"activate {entity.user}"
            )
        return Rights(
            ae_title=entity.ae_title if entity else title,
            permissions=policy.permissions(entity, user),
            sop_classes=entity.sop_classes if entity else frozenset(),
            turned_away=why,
            own_needs=self._own_needs,
        )


class CachedRights:
    """The rights of one caller by the policy of the moment, worked out once for each policy."""

    def __init__(
        self,
        control: PolicyAccessControl,
        request: AssociateRequest,
        origin: ConnectionOrigin,
        user_name: str,
    ) -> None:
        self._control = control
        self._request = request
        self._origin = origin
        self._user_name = user_name
        self._policy: Policy | None = None
        self._enforcement: Enforcement | None = None
        self._rights: Rights | None = None

    def take(self, policy: Policy, rights: Rights | None) -> None:
        """These are the rights by *policy*."""
        self._policy, self._rights = policy, rights
        self._enforcement = self._control.enforcement

    def current(self) -> Rights | None:
        """The rights now; None: everything is allowed."""
        policy = self._control.policy
        if policy is not self._policy or self._control.enforcement is not self._enforcement:
            self.take(
                policy,
                self._control.rights(self._request, self._origin, self._user_name, policy),
            )
        return self._rights


def _rejected(why: str, cure: str = "") -> Rejected:
    return Rejected(CALLING_AE_TITLE_NOT_RECOGNIZED, why, cure)


def _as_options(identity: PeerIdentity | None) -> tuple[str, ...]:
    return () if identity is None else ("--fingerprint", identity.fingerprint)
