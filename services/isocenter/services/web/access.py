"""Authentication and authorization of web requests, by the policy of associations.

Who calls is proven by a client certificate, or by a bearer token (RFC 6750): one of the issuer
that the settings name, or an API token of this archive.  Programs on the machine itself need
neither in the clear, but pages of the web that run in a browser there do not count as such: they
reach the archive under a name of their own (DNS rebinding), or from another origin (cross-site
request forgery), and browsers say both.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from math import ceil
from time import time
from typing import Final

from isocenter.engine.items import UserIdentity
from isocenter.services.association.access import TEMPORARY_CONGESTION
from isocenter.services.errors import StorageError
from isocenter.services.net.addresses import is_loopback, is_loopback_authority
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.cross_origin import NO_ORIGINS, AllowedOrigins, may_change
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.routing import Route
from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title
from isocenter.services.notices import AccessDenied, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.api_tokens import PREFIX, ApiTokenVerifier, token_owner
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.failed_sign_ins import FailedSignIns, SignInFailed
from isocenter.services.security.access.permissions import (
    ALL_PERMISSIONS,
    Permissions,
    permission_texts,
    union,
    without,
)
from isocenter.services.security.access.policy import ApplicationEntity, Policy
from isocenter.services.security.access.ports import ApiToken, Session
from isocenter.services.security.access.recipients import SEVERAL, Recipients
from isocenter.services.security.access.share_links import PREFIX as LINK_PREFIX
from isocenter.services.security.access.user_identity import JWT, UserIdentified, UserRejected
from isocenter.services.web.browser_sessions import BrowserSessions
from isocenter.services.web.deidentified_answers import is_for_projects
from isocenter.services.web.principal import (
    PUBLIC,
    Principal,
    caller_of,
    permissions_for,
    scopes_for,
)
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.study_scope import is_within

log = logging.getLogger("isocenter.access")

_REFUSED: Final = (("www-authenticate", 'Bearer realm="DICOMweb", error="invalid_token"'),)
_CHALLENGE: Final = (("www-authenticate", 'Bearer realm="DICOMweb"'),)


class WebAccess:
    """Lets callers in, and says in `Request.caller` who they are (a `Principal`).

    Args:
        access: the policy, and what tokens are believed.
        notices: told of what was refused.
        tokens: verifies API tokens; None: none is believed.
        origins: pages of which other origins may use the services.
        own_origin: of the address under which others reach us; empty: they ask for us as we are.
        sessions: of browsers that are signed in; None: none is believed.
        shared: studies to which there are links; None: none is believed.
        failures: of all who could not prove who they are; None: those of *access*.
        recipients: who is given de-identified objects only; None: nobody.
    """

    def __init__(
        self,
        access: PolicyAccessControl,
        notices: Notices,
        tokens: ApiTokenVerifier | None = None,
        *,
        origins: AllowedOrigins = NO_ORIGINS,
        own_origin: str = "",
        sessions: BrowserSessions | None = None,
        shared: SharedStudies | None = None,
        failures: FailedSignIns | None = None,
        recipients: Recipients | None = None,
    ) -> None:
        self._recipients = recipients or Recipients()
        self._shared = shared
        self._sessions = sessions
        self._origins = origins
        self._own_origin = own_origin
        self._access = access
        self._notices = notices
        self._tokens = tokens
        self._failures = failures or failures_of(access)

    async def __call__(self, request: Request, route: Route[Handler]) -> None:
        """Let the caller in.

        Raises:
            HttpError: nobody knows who it is (401), or it may not do that (403).
        """
        if route.needs == PUBLIC:
            return
        principal = await self._principal(request)
        if request.wants_websocket:
            self._check_origin(request, "WEBSOCKET")
        if self._recipients:
            principal = replace(principal, project=self._project_of(request, principal))
        request.caller = principal
        if principal.project and not is_for_projects(route.handler):
            self._refuse(request, route, "it is given de-identified objects only")
            raise HttpError(
                403, "NOT_ALLOWED", "you are given de-identified objects only, by DICOMweb"
            )
        if principal.project == SEVERAL:
            self._refuse(request, route, "it belongs to several projects of [[deidentification]]")
            raise HttpError(403, "NOT_ALLOWED", "you belong to several projects at once")
        if principal.study and not is_within(route, request.arguments, principal.study):
            self._refuse(request, route, "its link is to one study")
            raise HttpError(403, "NOT_ALLOWED", "the link is to one study, and to nothing else")
        lacking = without(permissions_for(route), principal.permissions)
        if lacking:
            words = " ".join(permission_texts(lacking))
            self._refuse(request, route, f"it lacks {words}")
            raise HttpError(403, "NOT_ALLOWED", f"the policy does not give {words}")
        good = scopes_for(route)
        if principal.scopes and good and not principal.scopes & good:
            words = " or ".join(sorted(good))
            self._refuse(request, route, f"its token has no scope {words}")
            raise HttpError(403, "NOT_IN_SCOPE", f"the token has no scope {words}")

    def _project_of(self, request: Request, principal: Principal) -> str:
        if principal.link_id:
            return ""  # whoever has it was sent it by somebody who may see the study as it is
        titles, roles = set(principal.ae_titles), set(principal.roles)
        identity = None if request.is_passed_on else request.identity
        if identity is not None and not principal.user:
            # Also where nobody is asked what the policy allows: this only narrows.
            policy = self._access.policy
            for entity in self._entities_of(policy, identity, request.host, also_inactive=True):
                titles.add(entity.ae_title)
                roles.update(policy.roles_of(entity, None))
        return self._recipients.project_of(
            titles=titles, identity=identity, host=request.host, roles=roles
        )

    async def _principal(self, request: Request) -> Principal:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if token and scheme.lower() == "bearer":
            return await self._by_token(request, token.strip())
        by_session = await self._by_session(request)
        if by_session is not None:
            return by_session
        if self._shared is not None:
            by_link = await self._shared.by_session(request)
            if by_link is not None:
                return by_link
        if not request.is_passed_on:
            # What a proxy shows, or where it is, tells nothing of who has asked it.
            if request.identity is not None:
                self._check_origin(request, request.method)
                return self._by_certificate(request, request.identity)
            if request.scheme == "http" and is_loopback(request.peer):
                self._check_local(request)
                return Principal(permissions=ALL_PERMISSIONS)
        raise HttpError(
            401,
            "NOT_SIGNED_IN",
            "show a client certificate, or a token: Authorization: Bearer TOKEN",
            _CHALLENGE,
        )

    async def _by_session(self, request: Request, *, is_use: bool = True) -> Principal | None:
        """None: the request belongs to no session, or to one that has ended."""
        if self._sessions is None:
            return None
        try:
            session = await self._sessions.find(request, is_use=is_use)
        except StorageError as error:
            log.error("a session cannot be looked up: %s", error)
            raise _unavailable() from error
        if session is None:
            return None
        if session.roles:
            return self._by_roles(request, session)
        user = self._access.policy.user(session.user)
        if user is None or not user.active:
            return None
        self._sessions.check_origin(request, is_known=True)
        return Principal(
            permissions=self._access.policy.permissions(None, user),
            user=user.name,
            is_policy_user=True,
            session=session,
            ends_at=session.expires_at,
            roles=frozenset(user.roles),
        )

    def _by_roles(self, request: Request, session: Session) -> Principal:
        """Somebody whom a provider knows: the roles of the groups, by the policy of now."""
        assert self._sessions is not None
        self._sessions.check_origin(request, is_known=True)
        roles = self._access.policy.all_roles
        return Principal(
            permissions=union(roles[name] for name in session.roles if name in roles),
            user=session.user,
            session=session,
            ends_at=session.expires_at,
            roles=frozenset(session.roles),
        )

    async def _by_token(self, request: Request, token: str) -> Principal:
        if token.startswith(LINK_PREFIX) and self._shared is not None:
            return await self._by_link(request, token)
        if token.startswith(PREFIX):
            return await self._by_api_token(request, token)
        identities = self._access.identities
        if identities is None or not identities.verifies_tokens:
            raise self._failed(request, "jwt", "the settings name no issuer of tokens")
        item = UserIdentity(
            identity_type=JWT,
            positive_response_requested=False,
            primary_field=token.encode("latin-1", "replace"),
        )
        policy = self._access.policy
        found = await identities.identify(item, policy, request.host)
        if isinstance(found, UserRejected) and found.reject == TEMPORARY_CONGESTION:
            # It was not looked at: too many have failed from there, or nothing can be verified now.
            left = ceil(self._failures.seconds_left(request.host))
            raise _too_many_failures(left) if left else _unavailable()
        if not isinstance(found, UserIdentified) or found.token is None:
            why = found.why if isinstance(found, UserRejected) else ""
            raise self._failed(request, "jwt", why, is_counted=True)
        return Principal(
            permissions=policy.permissions(None, found.user),
            user=found.user.name,
            is_policy_user=True,
            scopes=found.token.scopes,
            ends_at=found.token.expires_at,
            roles=frozenset(found.user.roles),
        )

    async def _by_link(self, request: Request, token: str) -> Principal:
        assert self._shared is not None
        try:
            return await self._shared.by_token(request, token)
        except HttpError as error:
            if error.status != 404:
                raise
            raise HttpError(401, "TOKEN_REFUSED", "the token is not believed", _REFUSED) from error

    async def _by_api_token(self, request: Request, text: str) -> Principal:
        try:
            if self._tokens is None:
                raise PolicyError("there are no API tokens here")
            token = await self._tokens.verify(text)
            permissions = self._permissions_of(token)
        except PolicyError as error:
            raise self._failed(request, "api_token", str(error)) from None
        except StorageError as error:
            log.error("an API token cannot be looked up: %s", error)
            raise _unavailable() from error
        return Principal(
            permissions=permissions,
            user=token_owner(token),
            is_policy_user=bool(token.user),
            scopes=frozenset(token.scopes),
            token_id=token.token_id,
            ends_at=token.expires_at,
            roles=self._roles_of(token),
        )

    def _permissions_of(self, token: ApiToken) -> Permissions:
        """What it may do by the policy of now: what it names may have gone since it was made."""
        policy = self._access.policy
        if token.user:
            user = policy.user(token.user)
            if user is None or not user.active:
                raise PolicyError(f"the user of token {token.token_id} is not active")
            return policy.permissions(None, user)
        roles = policy.all_roles
        return union(roles[name] for name in token.roles if name in roles)

    def _roles_of(self, token: ApiToken) -> frozenset[str]:
        user = self._access.policy.user(token.user) if token.user else None
        return frozenset(token.roles if user is None else user.roles)

    def _failed(
        self, request: Request, kind: str, why: str, *, is_counted: bool = False
    ) -> HttpError:
        """A token is not believed: told here, and to the caller without the reason."""
        if not is_counted:
            self._failures.count(request.host)
        self._notices.publish(SignInFailed(caller=caller_of(request), kind=kind, why=why))
        left = ceil(self._failures.seconds_left(request.host))
        if left:
            return _too_many_failures(left)
        return HttpError(
            401,
            "TOKEN_REFUSED",
            "the token is not believed",
            _REFUSED,
        )

    def _by_certificate(self, request: Request, identity: PeerIdentity) -> Principal:
        policy = self._access.policy
        name = identity.common_name or ""
        if identity.ends_at is not None and identity.ends_at <= time():
            # It was good in the handshake, and the connection has outlived it.
            raise HttpError(
                401, "CERTIFICATE_EXPIRED", "the client certificate has expired", _CHALLENGE
            )
        if not self._access.enforces(policy):
            return Principal(
                permissions=ALL_PERMISSIONS, certificate=name, ends_at=identity.ends_at
            )
        entities = list(self._entities_of(policy, identity, request.host))
        if not entities:
            raise HttpError(
                403, "NOT_ALLOWED", "the certificate is good, and the policy knows nobody with it"
            )
        permissions = union(policy.permissions(entity, None) for entity in entities)
        return Principal(
            permissions=permissions,
            certificate=name,
            ends_at=identity.ends_at,
            roles=frozenset(role for entity in entities for role in policy.roles_of(entity, None)),
            ae_titles=frozenset(entity.ae_title for entity in entities),
        )

    def _entities_of(
        self, policy: Policy, identity: PeerIdentity, host: str, *, also_inactive: bool = False
    ) -> list[ApplicationEntity]:
        """The application entities that a certificate may call as."""
        owns_by_name = self._access.settings.certificate_owns_ae_title
        return [
            entity
            for entity in policy.entities
            if (also_inactive or policy.is_admitted(entity))
            and entity.comes_from(host)
            and (
                any(rule.matches(identity) for rule in entity.certificates)
                if entity.certificates
                else owns_by_name and owns_ae_title(identity, entity.ae_title)
            )
        ]

    def _check_local(self, request: Request) -> None:
        """Whether a request on this machine is a program's, or that of a page of ours.

        Raises:
            HttpError: it is a page's of another origin (403).
        """
        if not is_loopback_authority(request.authority):
            raise HttpError(
                403, "WRONG_HOST", "ask for 127.0.0.1, [::1] or localhost: other names are not ours"
            )
        self._check_origin(request, request.method)

    def _check_origin(self, request: Request, method: str) -> None:
        """What a browser adds by itself, where it is and its certificate, proves nothing of the
        page that asks; and a WebSocket is read by a page of any origin.

        Raises:
            HttpError: it is a page's of another origin (403).
        """
        own = [f"{request.scheme}://{request.authority}", *filter(None, [self._own_origin])]
        if not may_change(method, own, self._origins, request.header):
            raise HttpError(403, "OTHER_ORIGIN", "a page of another origin may change nothing here")

    async def is_allowed_still(self, request: Request) -> bool:
        """Whether what a caller has shown is still worth something; what it may do of now is asked
        with each request."""
        principal = request.caller
        if not isinstance(principal, Principal):
            return True
        if principal.ends_at is not None and principal.ends_at <= time():
            return False
        if principal.link_id and self._shared is not None:
            return await self._shared.is_good_still(request, principal)
        if principal.token_id and self._tokens is not None:
            try:
                token = await self._tokens.still_valid(principal.token_id)
                return token is not None and bool(self._permissions_of(token))
            except PolicyError:
                return False
            except StorageError:
                return True  # it is asked again in a moment
        if principal.session is not None:
            return await self._lasts(request)
        user = self._access.policy.user(principal.user) if principal.user else None
        return not principal.user or (user is not None and user.active)

    async def _lasts(self, request: Request) -> bool:
        """Whether the session of a request has not ended; to ask that is no use of it."""
        try:
            return await self._by_session(request, is_use=False) is not None
        except HttpError:
            return True  # it is asked again in a moment

    def _refuse(self, request: Request, route: Route[Handler], why: str) -> None:
        self._notices.publish(
            AccessDenied(
                caller=caller_of(request),
                command=f"{route.method} {route.path}",
                sop_class_uid="",
                why=why,
            )
        )


def failures_of(access: PolicyAccessControl) -> FailedSignIns:
    """Those that are counted with associations, where these are."""
    return access.identities.failures if access.identities is not None else FailedSignIns()


def _too_many_failures(seconds: int) -> HttpError:
    return HttpError(
        429,
        "TOO_MANY_FAILURES",
        "too many sign-ins from there have failed; wait, and look at the token",
        [("retry-after", str(seconds))],
    )


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "no token can be verified now", [("retry-after", "5")])
