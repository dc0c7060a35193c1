"""Users in the API: roles, passcodes, one-time codes, sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.security.access.one_time_codes import provisioning_uri
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.ports import Session
from isocenter.services.security.access.sessions import SessionKeeper
from isocenter.services.security.access.user_changes import UserChanges
from isocenter.services.web.cursors import Key
from isocenter.services.web.principal import caller_of, permissions_of
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
from isocenter.services.web.rest.policy_answers import changing, moment, not_found, policy_now

_SERVICE: Final = "Users"
_PATH: Final = "/security/users"
_ONE: Final = f"{_PATH}/{{user}}"
_ROLE: Final = f"{_ONE}/roles/{{role}}"


class UserShown(Body):
    """Somebody who can sign in; `subjects` is what tokens and tickets call them."""

    name: str
    roles: list[str]
    subjects: list[str]
    is_active: bool
    has_passcode: bool
    has_codes: bool


class NewUser(Body):
    """A user to be made; `id` is the name that it signs in with.

    `username` may be left out, and is the same.  Without a passcode it signs in by tokens only.
    """

    id: str
    username: str = ""
    passcode: str = ""
    roles: tuple[str, ...] = ()


class UserChange(Body):
    """What of a user is to change; what is left out stays."""

    roles: list[str] | None = None
    is_active: bool | None = None
    passcode: str | None = None


class GivenRole(Body):
    """A role that a user gets."""

    role: str


class Codes(Body):
    """The secret of one-time codes, which is told this once, and the address for a QR code."""

    secret: str
    uri: str


class SessionShown(Body):
    """A browser that is signed in."""

    id: str
    user: str
    address: str
    created_at: str | None
    last_used_at: str | None
    expires_at: str | None


_CREATED: Final = (
    ok("It is made.", status=201, headers=("Location",)),
    Answer(400, "A name, passcode or role cannot be."),
    Answer(409, "There is a user of that name."),
)


class UserApi:
    """Answers with users, and changes them.

    Args:
        title: what one-time codes are for, as an authenticator shows it.
    """

    def __init__(self, users: UserChanges, sessions: SessionKeeper, *, title: str) -> None:
        self._users = users
        self._sessions = sessions
        self._title = title

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", _PATH, self.list, "Users, in the order of their names.", name="ListUsers",
            service=_SERVICE, needs="users", gives=Page[UserShown], parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.add, "Make a user.", name="AddUser", service=_SERVICE,
            needs="change_users", takes=NewUser, gives=UserShown, answers=_CREATED,
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One user.", name="GetUser", service=_SERVICE,
            needs="users", gives=UserShown, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.change, "Change roles, passcode, or whether it is believed.",
            name="ChangeUser", service=_SERVICE, needs="change_users", takes=UserChange,
            gives=UserShown, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove, "Forget a user.", name="RemoveUser", service=_SERVICE,
            needs="change_users", has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/roles", self.give_role, "Give a user a role beside those that it has.",
            name="GiveRole", service=_SERVICE, needs="change_users", takes=GivenRole,
            gives=UserShown, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ROLE, self.take_role, "Take a role from a user.", name="TakeRole",
            service=_SERVICE, needs="change_users", gives=UserShown, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/codes", self.ask_for_codes,
            "Ask a user for one-time codes from now on, of a new secret.", name="AskForCodes",
            service=_SERVICE, needs="change_users", gives=Codes,
        )  # fmt: skip
        yield endpoint(
            "DELETE", f"{_ONE}/codes", self.ask_for_no_codes, "Ask it for none.",
            name="AskForNoCodes", service=_SERVICE, needs="change_users",
        )  # fmt: skip
        yield endpoint(
            "GET", "/security/sessions", self.list_sessions,
            "Browsers that are signed in, by ID.", name="ListSessions", service=_SERVICE,
            needs="users", gives=Page[SessionShown], parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "DELETE", "/security/sessions/{session}", self.end_session, "End a session.",
            name="EndSession", service=_SERVICE, needs="change_users",
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        policy = await policy_now(self._users.policy)
        shown = [_shown(user) for user in policy.users]
        page = page_of(shown, page_request(request), _name_of)
        return answer(page, headers=link_headers(request, page))

    async def show(self, request: Request) -> Response:
        """The handler."""
        return tagged(request, _shown(await self._user(request)))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewUser)
        if body.username not in ("", body.id):
            raise HttpError(400, "INVALID_REQUEST", "a user has one name: send it as id")
        if (await policy_now(self._users.policy)).user(body.id) is not None:
            raise HttpError(409, "CONFLICT", "there is a user of that name")
        async with changing():
            await self._users.add(
                body.id, body.passcode, body.roles, caller_of(request), permissions_of(request)
            )
        user = (await policy_now(self._users.policy)).user(body.id)
        if user is None:
            raise not_found("user")
        location = ("location", f"{request.raw_path.decode('ascii', 'replace')}/{_quoted(user)}")
        return answer(_shown(user), 201, [location])

    async def change(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, UserChange)
        user = await self._user(request)
        async with changing():
            await self._users.only_if(self._check(request)).change(
                user.name,
                caller_of(request),
                permissions_of(request),
                roles=body.roles,
                passcode=body.passcode,
                is_active=body.is_active,
            )
        return await self._as_it_is(request)

    async def remove(self, request: Request) -> Response:
        """The handler."""
        user = await self._user(request)
        async with changing():
            await self._users.only_if(self._check(request)).remove(
                user.name, caller_of(request), permissions_of(request)
            )
        return Response(status=204)

    async def give_role(self, request: Request) -> Response:
        """The handler."""
        role = (await read_body(request, GivenRole)).role
        if role not in (await policy_now(self._users.policy)).all_roles:
            raise HttpError(400, "INVALID_ROLE", "there is no such role; see /security/roles")
        return await self._set_roles(request, lambda roles: dict.fromkeys((*roles, role)))

    async def take_role(self, request: Request) -> Response:
        """The handler."""
        role = request.arguments["role"]
        if role not in (await self._user(request)).roles:
            raise not_found("role of that user")
        return await self._set_roles(
            request, lambda roles: dict.fromkeys(one for one in roles if one != role)
        )

    async def ask_for_codes(self, request: Request) -> Response:
        """The handler."""
        user = await self._user(request)
        async with changing():
            secret = await self._users.ask_for_codes(
                user.name, caller_of(request), permissions_of(request)
            )
        return answer(Codes(secret=secret, uri=provisioning_uri(secret, user.name, self._title)))

    async def ask_for_no_codes(self, request: Request) -> Response:
        """The handler."""
        user = await self._user(request)
        async with changing():
            await self._users.ask_for_no_codes(
                user.name, caller_of(request), permissions_of(request)
            )
        return Response(status=204)

    async def list_sessions(self, request: Request) -> Response:
        """The handler."""
        sessions = [_session(one) for one in await self._sessions.lasting()]
        page = page_of(sessions, page_request(request), lambda one: (one.id,))
        return answer(page, headers=link_headers(request, page))

    async def end_session(self, request: Request) -> Response:
        """The handler."""
        session = request.arguments["session"]
        if not await self._users.end_session(session, caller_of(request)):
            raise not_found("session that lasts")
        return Response(status=204)

    async def _set_roles(
        self, request: Request, change: Callable[[tuple[str, ...]], dict[str, None]]
    ) -> Response:
        user = await self._user(request)
        async with changing():
            await self._users.only_if(self._check(request)).set_roles(
                user.name, list(change(user.roles)), caller_of(request), permissions_of(request)
            )
        return await self._as_it_is(request)

    async def _as_it_is(self, request: Request) -> Response:
        return tagged(request, _shown(await self._user(request)))

    async def _user(self, request: Request) -> User:
        user = (await policy_now(self._users.policy)).user(request.arguments["user"])
        if user is None:
            raise not_found("user")
        return user

    def _check(self, request: Request) -> Callable[[Policy], None]:
        def check(policy: Policy) -> None:
            user = policy.user(request.arguments["user"])
            check_unchanged(request, None if user is None else _shown(user))

        return check


def _name_of(user: UserShown) -> Key:
    return (user.name,)


def _quoted(user: User) -> str:
    return quote(user.name, safe="")


def _shown(user: User) -> UserShown:
    return UserShown(
        name=user.name,
        roles=list(user.roles),
        subjects=list(user.subjects),
        is_active=user.active,
        has_passcode=bool(user.password_hash),
        has_codes=bool(user.totp_secret),
    )


def _session(session: Session) -> SessionShown:
    return SessionShown(
        id=session.session_id,
        user=session.user,
        address=session.address,
        created_at=moment(session.created_at),
        last_used_at=moment(session.last_used_at),
        expires_at=moment(session.expires_at),
    )
