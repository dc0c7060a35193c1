"""Sign-in in the API: a session begun and ended, and who one is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.security.access.permissions import permission_texts
from isocenter.services.web.deidentified_answers import names_nobody
from isocenter.services.web.principal import (
    PUBLIC,
    Principal,
    caller_name,
    caller_of,
    permissions_of,
)
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import moment
from isocenter.services.web.sign_in import NotSignedInError, SignIn, SignInForm

_SERVICE: Final = "Sign-in"


class Credentials(Body):
    """Name and passcode of a user, and a one-time code if it is asked for one."""

    name: str
    passcode: str
    code: str = ""


class SignedInUser(Body):
    """Who has signed in; the cookie is in the header."""

    user: str


class Me(Body):
    """Who calls, by what, and what they may do; `ends_at`: when that is worth nothing any more."""

    name: str
    user: str
    certificate: str
    token_id: str
    is_session: bool
    permissions: list[str]
    scopes: list[str]
    ends_at: str | None


class SignInApi:
    """Begins and ends sessions, as the pages do."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "POST", "/auth/login", self.begin, "Begin a session; over TLS only.",
            name="SignIn", service=_SERVICE, needs=PUBLIC, takes=Credentials, gives=SignedInUser,
            answers=(
                ok("A session has begun.", headers=("Set-Cookie",)),
                Answer(401, "Name, passcode or code is not believed."),
                Answer(403, "It did not come over TLS, or from a page of another origin."),
            ),
        )  # fmt: skip
        yield endpoint(
            "POST", "/auth/logout", names_nobody(self.end), "End the session that asks.",
            name="SignOut", service=_SERVICE, needs=None,
        )  # fmt: skip
        yield endpoint(
            "POST", "/auth/refresh", names_nobody(self.me),
            "Use the session, which keeps it from ending; who it is, and until when.",
            name="RefreshSession", service=_SERVICE, needs=None, gives=Me,
        )  # fmt: skip
        yield endpoint(
            "GET", "/auth/me", names_nobody(self.me), "Who calls, and what they may do.",
            name="GetCaller", service=_SERVICE, needs=None, gives=Me,
        )  # fmt: skip

    async def begin(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, Credentials)
        form = SignInForm(name=body.name.strip(), passcode=body.passcode, code=body.code.strip())
        try:
            headers = await self._sign_in.begin(request, form)
        except NotSignedInError as error:
            challenge = [("www-authenticate", 'Session realm="archive"')]
            raise HttpError(401, "NOT_SIGNED_IN", str(error), challenge) from error
        return answer(SignedInUser(user=form.name), headers=headers)

    async def end(self, request: Request) -> Response:
        """The handler."""
        return Response(status=204, headers=await self._sign_in.end(request))

    async def me(self, request: Request) -> Response:
        """The handler."""
        principal = request.caller
        assert isinstance(principal, Principal)
        return answer(
            Me(
                name=caller_name(caller_of(request)),
                user=principal.user,
                certificate=principal.certificate,
                token_id=principal.token_id,
                is_session=principal.session is not None,
                permissions=permission_texts(permissions_of(request)),
                scopes=sorted(principal.scopes),
                ends_at=moment(principal.ends_at),
            )
        )
