"""Sign-in of people with a browser: name and passcode, one-time code, session cookie."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final
from urllib.parse import quote

from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import UserIdentity
from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import Headers, HttpError, Request
from isocenter.services.notices import Caller, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.one_time_codes import step_of
from isocenter.services.security.access.policy import User
from isocenter.services.security.access.sessions import SignedIn, SignedOut
from isocenter.services.security.access.user_identity import (
    USERNAME_AND_PASSCODE,
    UserIdentified,
)
from isocenter.services.web.browser_sessions import BrowserSessions, session_cookie
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import Principal, caller_of

log = logging.getLogger("isocenter.access")

_MOST_FIELD: Final = 1_024
_WRONG: Final = "name, passcode or one-time code is wrong, or the user is not active"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInForm:
    """What somebody who wants to sign in has written.

    Attributes:
        goes_to: the path to be shown then.
    """

    name: str = ""
    passcode: str = ""
    code: str = ""
    goes_to: str = "/"


class NotSignedInError(Exception):
    """Somebody is not believed; the text is for them, and says no more than it has to."""


class SignIn:
    """Begins and ends sessions."""

    def __init__(
        self,
        access: PolicyAccessControl,
        sessions: BrowserSessions,
        notices: Notices,
        now: Callable[[], float] = time,
    ) -> None:
        self._access = access
        self._sessions = sessions
        self._notices = notices
        self._now = now

    @property
    def is_possible(self) -> bool:
        """Whether there is anybody with a passcode."""
        return any(user.active and user.password_hash for user in self._access.policy.users)

    def is_secure(self, request: Request) -> bool:
        """Whether nobody else reads what goes to and fro."""
        return self._sessions.is_secure(request)

    def check_secure(self, request: Request) -> None:
        """Whether a passcode may be shown on the way that a request came.

        Raises:
            HttpError: others could read it (403).
        """
        if not self.is_secure(request):
            raise HttpError(403, "NOT_SECURE", "sign in over TLS (https): see web.https_host")

    async def begin(self, request: Request, form: SignInForm) -> Headers:
        """Begin a session; the headers that give the browser its cookie.

        Raises:
            NotSignedInError: name, passcode or code is not believed.
            HttpError: not over TLS (403), too many have failed (429), or nothing can be looked up
                now (503).
        """
        self.check_secure(request)
        self._sessions.check_origin(request, is_known=False)
        user = await self._proven(request, form)
        step = self._step(request, user, form)
        try:
            secret = await self._sessions.keeper.begin(user.name, request.host, step)
        except StorageError as error:
            log.error("a session cannot be kept: %s", error)
            raise HttpError(
                503, "UNAVAILABLE", "nobody can sign in now; try again later"
            ) from error
        if secret is None:
            raise self._refused(request, "the one-time code was used before")
        self._notices.publish(SignedIn(caller=caller_named(request, user.name)))
        return (session_cookie(secret, int(self._sessions.keeper.rules.most)),)

    async def end(self, request: Request) -> Headers:
        """End the session of a request, if it has one; the headers that take the cookie back."""
        principal = request.caller
        if isinstance(principal, Principal) and principal.session is not None:
            try:
                await self._sessions.keeper.end(principal.session)
            except StorageError as error:
                log.error("a session cannot be ended: %s", error)
                raise HttpError(503, "UNAVAILABLE", "nobody can sign out now") from error
            self._notices.publish(SignedOut(caller=caller_of(request)))
        return (session_cookie("", 0),)

    async def _proven(self, request: Request, form: SignInForm) -> User:
        """The user whose passcode it is.  Failures are counted with those of associations."""
        identities = self._access.identities
        if identities is None:
            raise NotSignedInError("nobody can sign in here")
        left = identities.failures.seconds_left(request.host)
        if left:
            raise HttpError(
                429,
                "TOO_MANY_FAILURES",
                "too many have failed to sign in from there; wait a moment",
                [("retry-after", str(int(left) + 1))],
            )
        item = UserIdentity(
            identity_type=USERNAME_AND_PASSCODE,
            positive_response_requested=False,
            primary_field=form.name.encode()[:_MOST_FIELD],
            secondary_field=form.passcode.encode()[: 2 * _MOST_FIELD],
        )
        found = await identities.identify(item, self._access.policy, request.host)
        if not isinstance(found, UserIdentified):
            raise self._refused(request, "name or passcode is wrong", is_counted=True)
        return found.user

    def _step(self, request: Request, user: User, form: SignInForm) -> int | None:
        """The time step of the one-time code; None: the user has none."""
        if not user.totp_secret:
            return None
        try:
            step = step_of(user.totp_secret, form.code, self._now())
        except PolicyError as error:
            log.error("%s", error)
            raise HttpError(503, "UNAVAILABLE", "one-time codes cannot be verified now") from error
        if step is None:
            raise self._refused(request, "the one-time code is wrong")
        return step

    def _refused(self, request: Request, why: str, *, is_counted: bool = False) -> NotSignedInError:
        identities = self._access.identities
        if identities is not None and not is_counted:
            identities.failures.count(request.host)
        self._notices.publish(
            SignInFailed(caller=caller_named(request, ""), kind="passcode", why=why)
        )
        return NotSignedInError(_WRONG)


async def read_form(request: Request) -> SignInForm:
    """The form in the body of a request.

    Raises:
        HttpError: there is none (400), or it is too long (413).
    """
    fields = await read_fields(request)
    return SignInForm(
        name=fields.get("name", "").strip(),
        passcode=fields.get("passcode", ""),
        code=fields.get("code", "").strip(),
        goes_to=own_path(fields.get("next", "")),
    )


def own_path(text: str) -> str:
    """A path of ours; `/` in the place of what would lead elsewhere."""
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_own and text.isascii() else "/"


def sign_in_path(request: Request) -> str:
    """Where to sign in, to come back then to what *request* asked for."""
    path = request.raw_path.decode("latin-1")
    query = request.raw_query.decode("latin-1")
    return f"/sign-in?next={quote(f'{path}?{query}' if query else path, safe='')}"


def caller_named(request: Request, user: str) -> Caller:
    """The caller of a request, who has just proven who it is."""
    return Caller(
        association=f"http-{request.name}",
        address=request.host,
        is_tls=request.scheme == "https",
        user=user,
    )
