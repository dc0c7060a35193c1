"""Page of the API tokens: list, making (shown once), revocation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.scopes import SCOPES
from isocenter.services.security.access.token_changes import TokenChanges
from isocenter.services.security.access.user_changes import UserChanges
from isocenter.services.web.forms import read_lists
from isocenter.services.web.principal import caller_of, permissions_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

_MOST_DAYS: Final = 3_650
_NOTHING: Final[Mapping[str, Sequence[str]]] = {}


class TokenPages:
    """Answers with API tokens, makes and revokes them."""

    def __init__(self, tokens: TokenChanges, users: UserChanges, layout: Layout) -> None:
        self._tokens = tokens
        self._users = users
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/tokens", "users", self.show, "API tokens.")
        yield action("/tokens", "change_users", self.add, "Make an API token.")
        path = "/tokens/{token}/revoke"
        yield action(path, "change_users", self.revoke, "Revoke an API token.")

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._page(request, _NOTHING, "")

    async def add(self, request: Request) -> Response:
        """The handler of the form that makes one; its answer shows it, this once."""
        lists = await read_lists(request)
        try:
            text, _ = await self._tokens.add(
                _last(lists, "name").strip(),
                user=_last(lists, "user"),
                roles=lists.get("role", ()),
                scopes=lists.get("scope", ()),
                days=_days(lists),
                caller=caller_of(request),
                may=permissions_of(request),
            )
        except PolicyError as error:
            return await self._page(request, lists, str(error))
        except StorageError as error:
            raise _unavailable() from error
        return await self._page(request, _NOTHING, "", text)

    async def revoke(self, request: Request) -> Response:
        """The handler of the button that ends one."""
        try:
            token = await self._tokens.revoke(request.arguments["token"], caller_of(request))
        except StorageError as error:
            raise _unavailable() from error
        if token is None:
            raise HttpError(404, "NOT_FOUND", "there is no such token, or it was revoked before")
        return Response(status=303, headers=[("location", "/tokens")])

    async def _page(
        self,
        request: Request,
        lists: Mapping[str, Sequence[str]],
        fault: str,
        text: str = "",
    ) -> Response:
        try:
            tokens = await self._tokens.all()
            policy = await self._users.policy()
        except StorageError as error:
            raise _unavailable() from error
        except PolicyError as error:
            raise HttpError(503, "UNAVAILABLE", "the policy cannot be read; see the log") from error
        now = time()
        order = {"valid": 0, "expired": 1, "revoked": 2}
        return self._layout.page(
            request,
            "tokens.html",
            status=400 if fault else 200,
            section="tokens",
            tokens=sorted(tokens, key=lambda one: (order[one.state(now)], one.name)),
            now=now,
            users=[one.name for one in policy.users if one.active],
            roles=list(policy.all_roles),
            scopes=SCOPES,
            lists=lists,
            most_days=_MOST_DAYS,
            fault=fault,
            text=text,
        )


def _last(lists: Mapping[str, Sequence[str]], name: str) -> str:
    return lists.get(name, ("",))[-1]


def _days(lists: Mapping[str, Sequence[str]]) -> int:
    """For how long.

    Raises:
        PolicyError: it is no number of days.
    """
    text = _last(lists, "days").strip()
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _MOST_DAYS):
        raise PolicyError(f"say for how many days, from 1 to {_MOST_DAYS:,}")
    return int(text)


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "tokens cannot be read now", [("retry-after", "5")])
