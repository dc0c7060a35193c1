"""Roles in the API: what they give, made and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route
from isocenter.services.security.access.permissions import ROLES, permission_texts
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import (
    changing,
    not_found,
    permissions_in,
    policy_now,
)

_SERVICE: Final = "Roles"
_PATH: Final = "/security/roles"
_ONE: Final = f"{_PATH}/{{role}}"
_MOST_NAME: Final = 64


class Role(Body):
    """A role: `permissions` as `study:read+write`; `is_built_in`: it is there without being made.

    `is_of_policy`: the policy has it, in the place of the built-in one if there is one.
    """

    name: str
    permissions: list[str]
    is_built_in: bool
    is_of_policy: bool


class RoleChange(Body):
    """What a role gives: `study:read+write`, `system:full`, or an operation as `C-STORE`."""

    permissions: list[str]


class RoleApi:
    """Answers with roles, and changes them."""

    def __init__(self, changes: PolicyChanges) -> None:
        self._changes = changes

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", _PATH, self.list, "Roles, in the order of their names.", name="ListRoles",
            service=_SERVICE, needs="roles", gives=Page[Role], parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One role.", name="GetRole", service=_SERVICE,
            needs="roles", gives=Role, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.put, "Make a role, or give it other permissions.", name="PutRole",
            service=_SERVICE, needs="change_roles", takes=RoleChange, gives=Role, has_tag=True,
            answers=(Answer(400, "A permission is none, or somebody would shut themselves out."),),
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove,
            "Forget a role of the policy; a built-in one is what it was before.",
            name="RemoveRole", service=_SERVICE, needs="change_roles", has_tag=True,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        policy = await policy_now(self._changes.policy)
        roles = [_role(policy, name) for name in policy.all_roles]
        page = page_of(roles, page_request(request), lambda role: (role.name,))
        return answer(page, headers=link_headers(request, page))

    async def show(self, request: Request) -> Response:
        """The handler."""
        policy, name = await policy_now(self._changes.policy), request.arguments["role"]
        if name not in policy.all_roles:
            raise not_found("role")
        return tagged(request, _role(policy, name))

    async def put(self, request: Request) -> Response:
        """The handler."""
        body, name = await read_body(request, RoleChange), request.arguments["role"]
        if len(name) > _MOST_NAME or name != name.strip():
            raise HttpError(
                400, "INVALID_REQUEST", f"the name of a role has 1 to {_MOST_NAME} characters"
            )
        permissions = permissions_in(body.permissions)
        async with changing():
            changes = self._changes.only_if(_check(request))
            await changes.put_role(name, permissions, caller_of(request))
        return await self.show(request)

    async def remove(self, request: Request) -> Response:
        """The handler."""
        policy, name = await policy_now(self._changes.policy), request.arguments["role"]
        if name not in policy.all_roles:
            raise not_found("role")
        async with changing():
            await self._changes.only_if(_check(request)).remove_role(name, caller_of(request))
        return Response(status=204)


def _check(request: Request) -> Callable[[Policy], None]:
    name = request.arguments["role"]

    def check(policy: Policy) -> None:
        check_unchanged(request, _role(policy, name) if name in policy.all_roles else None)

    return check


def _role(policy: Policy, name: str) -> Role:
    return Role(
        name=name,
        permissions=permission_texts(policy.all_roles[name]),
        is_built_in=name in ROLES,
        is_of_policy=name in policy.roles,
    )
