"""Pages of the users: roles, passcodes, one-time codes, sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from urllib.parse import quote

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.one_time_codes import provisioning_uri
from isocenter.services.security.access.permissions import permission_texts
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.ports import Session
from isocenter.services.security.access.sessions import SessionKeeper
from isocenter.services.security.access.user_changes import UserChanges
from isocenter.services.web.forms import read_fields, read_lists
from isocenter.services.web.principal import caller_of, permissions_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.qr_codes import qr_code

_USER: Final = "/users/{user}"


class UserPages:
    """Answers with users, and changes them.

    Args:
        title: what one-time codes are for, as an authenticator shows it.
    """

    def __init__(
        self, users: UserChanges, sessions: SessionKeeper, layout: Layout, *, title: str
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._layout = layout
        self._title = title

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/users", "users", self.show, "Users, and who has signed in.")
        yield page(_USER, "users", self.show_one, "One user.")
        for path, handler, text in (
            ("/users", self.add, "Make a user."),
            (f"{_USER}/roles", self.set_roles, "Give a user other roles."),
            (f"{_USER}/passcode", self.set_passcode, "Give a user another passcode."),
            (f"{_USER}/codes", self.set_codes, "Ask a user for one-time codes, or for none."),
            (f"{_USER}/active", self.set_active, "Activate a user, or deactivate it."),
            (f"{_USER}/remove", self.remove, "Forget a user."),
            ("/sessions/{session}/end", self.end, "End a session."),
        ):
            yield action(path, "change_users", handler, text)

    async def show(self, request: Request) -> Response:
        """The handler of the list."""
        return await self._list(request, {}, "")

    async def add(self, request: Request) -> Response:
        """The handler of the form that makes one."""
        lists = await read_lists(request)
        fields = {name: values[-1] for name, values in lists.items()}
        name = fields.get("name", "").strip()
        try:
            await self._users.add(
                name,
                fields.get("passcode", ""),
                lists.get("role", ()),
                caller_of(request),
                permissions_of(request),
            )
        except PolicyError as error:
            return await self._list(request, fields, str(error))
        return _to("/users")

    async def show_one(self, request: Request) -> Response:
        """The handler of the page of one."""
        return await self._one(request, "")

    async def set_roles(self, request: Request) -> Response:
        """The handler of the form that gives it other roles."""
        roles = (await read_lists(request)).get("role", ())
        name, caller = request.arguments["user"], caller_of(request)
        return await self._done(
            request, lambda: self._users.set_roles(name, roles, caller, permissions_of(request))
        )

    async def set_passcode(self, request: Request) -> Response:
        """The handler of the form that gives it another passcode."""
        passcode = (await read_fields(request)).get("passcode", "")
        name, caller = request.arguments["user"], caller_of(request)
        return await self._done(
            request,
            lambda: self._users.set_passcode(name, passcode, caller, permissions_of(request)),
        )

    async def set_codes(self, request: Request) -> Response:
        """The handler of the form that asks it for one-time codes; the secret is shown once."""
        is_off = "off" in await read_fields(request)
        name, caller, may = request.arguments["user"], caller_of(request), permissions_of(request)
        if is_off:
            return await self._done(
                request, lambda: self._users.ask_for_no_codes(name, caller, may)
            )
        try:
            secret = await self._users.ask_for_codes(name, caller, may)
        except PolicyError as error:
            return await self._one(request, str(error))
        return await self._one(request, "", secret)

    async def set_active(self, request: Request) -> Response:
        """The handler of the button that believes it again, or no more."""
        is_active = "yes" in (await read_fields(request)).get("active", "")
        name, caller = request.arguments["user"], caller_of(request)
        return await self._done(
            request,
            lambda: self._users.set_active(name, is_active, caller, permissions_of(request)),
        )

    async def remove(self, request: Request) -> Response:
        """The handler of the button that forgets it."""
        name, caller = request.arguments["user"], caller_of(request)
        return await self._done(
            request,
            lambda: self._users.remove(name, caller, permissions_of(request)),
            goes_to="/users",
        )

    async def end(self, request: Request) -> Response:
        """The handler of the button that ends a session."""
        try:
            session = request.arguments["session"]
            is_ended = await self._users.end_session(session, caller_of(request))
        except StorageError as error:
            raise _unavailable() from error
        if not is_ended:
            raise HttpError(404, "NOT_FOUND", "the session has ended")
        return _to("/users")

    async def _done(
        self, request: Request, change: Callable[[], Awaitable[None]], goes_to: str = ""
    ) -> Response:
        """Change a user; then to its page, which says what cannot be."""
        try:
            await change()
        except PolicyError as error:
            return await self._one(request, str(error))
        except StorageError as error:
            raise _unavailable() from error
        return _to(goes_to or f"/users/{quote(request.arguments['user'], safe='')}")

    async def _list(self, request: Request, fields: dict[str, str], fault: str) -> Response:
        policy, sessions = await self._policy(), await self._lasting()
        return self._layout.page(
            request,
            "users.html",
            status=400 if fault else 200,
            section="users",
            users=sorted(policy.users, key=lambda one: one.name.lower()),
            roles=_role_texts(policy),
            sessions=sessions,
            counts=Counter(one.user for one in sessions),
            fields=fields,
            fault=fault,
        )

    async def _one(self, request: Request, fault: str, secret: str = "") -> Response:
        policy = await self._policy()
        user = policy.user(request.arguments["user"])
        if user is None:
            raise HttpError(404, "NOT_FOUND", "there is no such user")
        uri = provisioning_uri(secret, user.name, self._title) if secret else ""
        return self._layout.page(
            request,
            "user.html",
            status=400 if fault else 200,
            section="users",
            one=user,
            address=f"/users/{quote(user.name, safe='')}",
            roles=_role_texts(policy),
            sessions=[one for one in await self._lasting() if one.user == user.name],
            is_self=caller_of(request).user == user.name,
            fault=fault,
            secret=secret,
            uri=uri,
            picture=qr_code(uri) if uri else None,
        )

    async def _policy(self) -> Policy:
        try:
            return await self._users.policy()
        except PolicyError as error:
            raise HttpError(503, "UNAVAILABLE", "the policy cannot be read; see the log") from error

    async def _lasting(self) -> list[Session]:
        try:
            return await self._sessions.lasting()
        except StorageError as error:
            raise _unavailable() from error


def _role_texts(policy: Policy) -> dict[str, str]:
    """Each role with what it gives."""
    return {name: " ".join(permission_texts(role)) for name, role in policy.all_roles.items()}


def _to(path: str) -> Response:
    return Response(status=303, headers=[("location", path)])


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "sessions cannot be read now", [("retry-after", "5")])
