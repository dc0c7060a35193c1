"""Principal: who a web request is from, and for what it is good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Caller
from isocenter.services.security.access import scopes
from isocenter.services.security.access.permissions import (
    NO_PERMISSIONS,
    Action,
    Permissions,
    Resource,
    without,
)
from isocenter.services.security.access.ports import Session
from isocenter.services.workflow.jobs.asker import Asker

#: What a route needs that everybody may use, also who is not known.
PUBLIC: Final = "public"
#: What a route needs → what its caller must be allowed.
NEEDS: Final[Mapping[str, Permissions]] = {
    "search": {Resource.METADATA: Action.READ},
    "read": {Resource.STUDY: Action.READ},
    "export": {Resource.STUDY: Action.READ | Action.EXPORT},
    "write": {Resource.STUDY: Action.WRITE},
    "delete": {Resource.STUDY: Action.DELETE},
    "correct": {Resource.STUDY: Action.WRITE, Resource.METADATA: Action.READ | Action.WRITE},
    "commit": {Resource.STUDY: Action.EXECUTE},
    "state": {Resource.SYSTEM: Action.READ},
    "configure": {Resource.SYSTEM: Action.WRITE},
    "audit": {Resource.AUDIT: Action.READ},
    "users": {Resource.USER: Action.READ},
    "change_users": {Resource.USER: Action.READ | Action.WRITE},
    "roles": {Resource.ROLE: Action.READ},
    "change_roles": {Resource.ROLE: Action.READ | Action.WRITE},
    PUBLIC: {},
}
#: What a route needs → the scopes any of which is enough, of a token that has scopes at all.
SCOPES: Final[Mapping[str, frozenset[str]]] = {
    "search": frozenset({scopes.SEARCH}),
    "read": frozenset({scopes.READ}),
    "export": frozenset({scopes.READ}),
    "write": frozenset({scopes.WRITE}),
    "delete": frozenset({scopes.ADMIN}),
    "correct": frozenset({scopes.ADMIN}),
    "commit": frozenset({scopes.WRITE}),
    "state": frozenset({scopes.ADMIN}),
    "configure": frozenset({scopes.ADMIN}),
    "audit": frozenset({scopes.ADMIN}),
    "users": frozenset({scopes.ADMIN}),
    "change_users": frozenset({scopes.ADMIN}),
    "roles": frozenset({scopes.ADMIN}),
    "change_roles": frozenset({scopes.ADMIN}),
    PUBLIC: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls.

    Attributes:
        user, certificate: its name, for the audit trail; both empty: a program on this machine.
        is_policy_user: whether *user* is one of the policy.
        scopes: of the token that narrow what it is good for; empty: nothing is narrowed.
        token_id: of the API token that it showed; empty: none.
        session: of the browser that is signed in; None: it showed something else.
        study: the one that it is limited to; empty: to none.
        link_id: of the share link that it showed; empty: none.
        roles: of the policy, by which it has its permissions.
        ae_titles: as which it may call by its certificate.
        project: of de-identification, under which it is given objects and nothing else; empty: it
            is given them as they are.
        ends_at: when what it showed is worth nothing any more, in seconds since 1970; None: it
            does not end by itself.
    """

    permissions: Permissions
    user: str = ""
    is_policy_user: bool = False
    certificate: str = ""
    scopes: frozenset[str] = frozenset()
    token_id: str = ""
    session: Session | None = None
    study: str = ""
    link_id: str = ""
    ends_at: float | None = None
    roles: frozenset[str] = frozenset()
    ae_titles: frozenset[str] = frozenset()
    project: str = ""


def what_may(caller: Any) -> frozenset[str]:
    """Of `NEEDS`, those that a caller meets."""
    if not isinstance(caller, Principal):
        return frozenset({PUBLIC})
    return frozenset(
        need
        for need, permissions in NEEDS.items()
        if not without(permissions, caller.permissions)
        and (not caller.scopes or not SCOPES[need] or caller.scopes & SCOPES[need])
    )


def permissions_of(request: Request) -> Permissions:
    """What the caller of a request may do at all."""
    principal = request.caller
    return principal.permissions if isinstance(principal, Principal) else NO_PERMISSIONS


def permissions_for(route: Route[Any]) -> Permissions:
    """What the caller of a route must be allowed; nothing: whoever is known may."""
    return {} if route.needs is None else NEEDS[route.needs]


def scopes_for(route: Route[Any]) -> frozenset[str]:
    """The scopes any of which is enough for a route; empty: none is needed."""
    return frozenset() if route.needs is None else SCOPES[route.needs]


def caller_key(request: Request) -> str:
    """What the requests of one caller have in common: its name, or where it is."""
    principal = request.caller
    if isinstance(principal, Principal) and (principal.user or principal.certificate):
        return f"{principal.user}\n{principal.certificate}\n{principal.token_id}"
    return request.host


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


def asker_of(request: Request) -> Asker | None:
    """By what the policy knows the caller of a request, for jobs; None: it knows it by nothing."""
    principal = request.caller
    if not isinstance(principal, Principal):
        return None
    asker = Asker(
        user=principal.user if principal.is_policy_user else "",
        token_id=principal.token_id,
        roles=() if principal.is_policy_user else tuple(sorted(principal.roles)),
        ae_titles=tuple(sorted(principal.ae_titles)),
    )
    return None if asker == Asker() else asker


def caller_name(caller: Caller) -> str:
    """Who it is, for lists of what was asked: its user, its certificate, or where it is."""
    return caller.user or caller.certificate or caller.address
