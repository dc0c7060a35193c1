"""Authentication and authorization of web requests, by the policy of associations.

Who calls is proven by a client certificate, or by a bearer token (RFC 6750) of the issuer that the
settings name.  Programs on the machine itself need neither in the clear, but pages of the web that
run in a browser there do not count as such: they reach the archive under a name of their own (DNS
rebinding), or from another origin (cross-site request forgery), and browsers say both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import UserIdentity
from isocenter.services.net.addresses import is_loopback, is_loopback_authority
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.routing import Route
from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title
from isocenter.services.notices import AccessDenied, Caller, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.permissions import (
    ALL_PERMISSIONS,
    Action,
    Permissions,
    Resource,
    permission_texts,
    union,
    without,
)
from isocenter.services.security.access.policy import ApplicationEntity, Policy
from isocenter.services.security.access.tokens import claims_of
from isocenter.services.security.access.user_identity import JWT, UserIdentified

#: What a route needs → what its caller must be allowed.
NEEDS: Final[Mapping[str, Permissions]] = {
    "search": {Resource.METADATA: Action.READ},
    "read": {Resource.STUDY: Action.READ},
    "write": {Resource.STUDY: Action.WRITE},
}
#: Scopes of a token narrow what its user may do, if it has any of them.
_SCOPES: Final = {need: f"dicomweb.{need}" for need in NEEDS}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES: Final = frozenset({"same-origin", "none"})
_CHALLENGE: Final = (("www-authenticate", 'Bearer realm="DICOMweb"'),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls.

    Attributes:
        user, certificate: its name, for the audit trail; both empty: a program on this machine.
        scopes: of the token that narrow what it is good for; empty: nothing is narrowed.
    """

    permissions: Permissions
    user: str = ""
    certificate: str = ""
    scopes: frozenset[str] = frozenset()


class WebAccess:
    """Lets callers in, and says in `Request.caller` who they are (a `Principal`).

    Args:
        access: the policy, and what tokens are believed.
        notices: told of what was refused.
    """

    def __init__(self, access: PolicyAccessControl, notices: Notices) -> None:
        self._access = access
        self._notices = notices

    async def __call__(self, request: Request, route: Route[Handler]) -> None:
        """Let the caller in.

        Raises:
            HttpError: nobody knows who it is (401), or it may not do that (403).
        """
        principal = await self._principal(request)
        request.caller = principal
        needs = NEEDS[route.needs]
        lacking = without(needs, principal.permissions)
        if lacking:
            words = " ".join(permission_texts(lacking))
            self._refuse(request, route, f"it lacks {words}")
            raise HttpError(403, "NOT_ALLOWED", f"the policy does not give {words}")
        if principal.scopes and _SCOPES[route.needs] not in principal.scopes:
            self._refuse(request, route, f"its token has no scope {_SCOPES[route.needs]}")
            raise HttpError(403, "NOT_IN_SCOPE", f"the token has no scope {_SCOPES[route.needs]}")

    async def _principal(self, request: Request) -> Principal:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if token and scheme.lower() == "bearer":
            return await self._by_token(request, token.strip())
        if request.identity is not None:
            return self._by_certificate(request, request.identity)
        if request.scheme == "http" and is_loopback(request.host):
            _check_local(request)
            return Principal(permissions=ALL_PERMISSIONS)
        raise HttpError(
            401,
            "NOT_SIGNED_IN",
            "show a client certificate, or a token: Authorization: Bearer TOKEN",
            _CHALLENGE,
        )

    async def _by_token(self, request: Request, token: str) -> Principal:
        identities = self._access.identities
        item = UserIdentity(
            identity_type=JWT,
            positive_response_requested=False,
            primary_field=token.encode("latin-1", "replace"),
        )
        policy = self._access.policy
        found = (
            await identities.identify(item, policy, request.host)
            if identities is not None and identities.verifies_tokens
            else None
        )
        if not isinstance(found, UserIdentified):
            raise HttpError(
                401,
                "TOKEN_REFUSED",
                "the token is not believed",
                [("www-authenticate", 'Bearer realm="DICOMweb", error="invalid_token"')],
            )
        return Principal(
            permissions=policy.permissions(None, found.user),
            user=found.user.name,
            scopes=_scopes_of(token),
        )

    def _by_certificate(self, request: Request, identity: PeerIdentity) -> Principal:
        policy = self._access.policy
        name = identity.common_name or ""
        if not policy.entities:
            return Principal(permissions=ALL_PERMISSIONS, certificate=name)
        entities = list(self._entities_of(policy, identity, request.host))
        if not entities:
            raise HttpError(
                403, "NOT_ALLOWED", "the certificate is good, and the policy knows nobody with it"
            )
        permissions = union(policy.permissions(entity, None) for entity in entities)
        return Principal(permissions=permissions, certificate=name)

    def _entities_of(
        self, policy: Policy, identity: PeerIdentity, host: str
    ) -> list[ApplicationEntity]:
        """The application entities that a certificate may call as."""
        owns_by_name = self._access.settings.certificate_owns_ae_title
        return [
            entity
            for entity in policy.entities
            if entity.active
            and entity.comes_from(host)
            and (
                any(rule.matches(identity) for rule in entity.certificates)
                if entity.certificates
                else owns_by_name and owns_ae_title(identity, entity.ae_title)
            )
        ]

    def _refuse(self, request: Request, route: Route[Handler], why: str) -> None:
        self._notices.publish(
            AccessDenied(
                caller=caller_of(request),
                command=f"{route.method} {route.path}",
                sop_class_uid="",
                why=why,
            )
        )


def caller_of(request: Request) -> Caller:
    """The caller of a request, for notices."""
    principal = request.caller
    return Caller(
        association=f"http-{request.name}",
        address=request.host,
        is_tls=request.scheme == "https",
        certificate=principal.certificate if isinstance(principal, Principal) else "",
        user=principal.user if isinstance(principal, Principal) else "",
    )


def _check_local(request: Request) -> None:
    """Whether a request on this machine is a program's.

    Raises:
        HttpError: it is a page's of another origin (403).
    """
    if not is_loopback_authority(request.authority):
        raise HttpError(
            403, "WRONG_HOST", "ask for 127.0.0.1, [::1] or localhost: other names are not ours"
        )
    if request.method not in _SAFE_METHODS and not _is_same_origin(request):
        raise HttpError(403, "OTHER_ORIGIN", "a page of another origin may change nothing here")


def _is_same_origin(request: Request) -> bool:
    site = request.header("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    origin = request.header("origin")
    return origin is None or origin == f"{request.scheme}://{request.authority}"


def _scopes_of(token: str) -> frozenset[str]:
    """The scopes of ours in a token that was verified (RFC 8693 4.2: separated by spaces)."""
    said = claims_of(token).get("scope", "")
    return frozenset(str(said).split()) & frozenset(_SCOPES.values())
