"""API tokens in the API: list, making (shown once), revocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.security.access.token_changes import TokenChanges
from isocenter.services.web.principal import caller_of, permissions_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import changing, moment, not_found

_SERVICE: Final = "API tokens"
_PATH: Final = "/security/tokens"
_STATES: Final = ("valid", "expired", "revoked")
_MOST_DAYS: Final = 3_650


class Token(Body):
    """What is kept of an API token; its secret is not.

    It has the permissions of a user, or of roles, as far as its scopes let it.
    """

    id: str
    name: str
    user: str
    roles: list[str]
    scopes: list[str]
    state: str
    created_at: str | None
    created_by: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None


class NewToken(Body):
    """A token to be made, of one user or of roles; `days` is for how long, null for ever."""

    name: str
    user: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    days: int | None = 365


class MadeToken(Body):
    """The token, which nobody can be told again, and what is kept of it."""

    token: str
    kept: Token


class TokenApi:
    """Answers with API tokens, makes and revokes them."""

    def __init__(self, tokens: TokenChanges) -> None:
        self._tokens = tokens

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", _PATH, self.list, "API tokens, the oldest first.", name="ListTokens",
            service=_SERVICE, needs="users", gives=Page[Token],
            parameters=(
                Parameter(name="state", text="Those that are so.", values=_STATES),
                *PAGE_PARAMETERS,
            ),
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.add, "Make an API token.", name="AddToken", service=_SERVICE,
            needs="change_users", takes=NewToken, gives=MadeToken,
            answers=(
                ok("It is made; keep it.", status=201),
                Answer(400, "It cannot be made so, or its name is taken."),
            ),
        )  # fmt: skip
        yield endpoint(
            "DELETE", f"{_PATH}/{{token}}", self.revoke, "Revoke an API token.",
            name="RevokeToken", service=_SERVICE, needs="change_users",
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted, now = request.parameter("state"), self._tokens.now()
        if wanted is not None and wanted not in _STATES:
            raise HttpError(400, "INVALID_REQUEST", f"a state is one of {', '.join(_STATES)}")
        tokens = [
            one for one in await self._tokens.all() if wanted is None or one.state(now) == wanted
        ]
        made = page_of(tokens, page_request(request), lambda one: (one.created_at, one.token_id))
        page = Page(data=[_token(one, now) for one in made.data], pagination=made.pagination)
        return answer(page, headers=link_headers(request, page))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewToken)
        if body.days is not None and not 1 <= body.days <= _MOST_DAYS:
            raise HttpError(
                400, "INVALID_REQUEST", f"days is a number from 1 to {_MOST_DAYS}, or null"
            )
        async with changing():
            text, token = await self._tokens.add(
                body.name,
                user=body.user,
                roles=body.roles,
                scopes=body.scopes,
                days=body.days,
                caller=caller_of(request),
                may=permissions_of(request),
            )
        return answer(MadeToken(token=text, kept=_token(token, self._tokens.now())), 201)

    async def revoke(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            token = await self._tokens.revoke(request.arguments["token"], caller_of(request))
        if token is None:
            raise not_found("token, or it was revoked before")
        return Response(status=204)


def _token(token: ApiToken, now: float) -> Token:
    return Token(
        id=token.token_id,
        name=token.name,
        user=token.user,
        roles=list(token.roles),
        scopes=list(token.scopes),
        state=token.state(now),
        created_at=moment(token.created_at),
        created_by=token.created_by,
        expires_at=moment(token.expires_at),
        last_used_at=moment(token.last_used_at),
        revoked_at=moment(token.revoked_at),
    )
