"""Sign-in of people at an OpenID Connect provider, and sign-out there."""

from __future__ import annotations

import base64
import hmac
import logging
from functools import partial
from math import ceil
from typing import Final

import orjson
import trio

from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.notices import Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.failed_sign_ins import FailedSignIns, SignInFailed
from isocenter.services.security.access.openid_provider import (
    Attempt,
    OpenIdProvider,
    Person,
    ProviderUnavailableError,
)
from isocenter.services.security.access.ports import Session
from isocenter.services.security.access.sessions import SignedIn
from isocenter.services.web.browser_sessions import BrowserSessions, cookie_of, session_cookie
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.principal import caller_of
from isocenter.services.web.sign_in import caller_named, own_path

log = logging.getLogger("isocenter.access")

#: Where the provider sends browsers back to; it has to know this address.
CALLBACK: Final = "/sign-in/oidc/callback"
BEGIN: Final = "/sign-in/oidc"
_COOKIE: Final = "__Host-isocenter-oidc"
#: For a passcode, a second factor, and for finding the telephone.
_ATTEMPT_SECONDS: Final = 900
_MOST_CODE: Final = 4_096
_MOST_AT_ONCE: Final = 8


class OpenIdSignIn:
    """Begins sessions of people whom the provider knows."""

    def __init__(
        self,
        provider: OpenIdProvider,
        access: PolicyAccessControl,
        sessions: BrowserSessions,
        notices: Notices,
        failures: FailedSignIns,
        urls: PublicUrls,
    ) -> None:
        self._provider = provider
        self._access = access
        self._sessions = sessions
        self._notices = notices
        self._failures = failures
        self._urls = urls
        self._limiter = trio.CapacityLimiter(_MOST_AT_ONCE)

    @property
    def label(self) -> str:
        """What the provider is called."""
        return self._provider.rules.label

    async def begin(self, request: Request) -> Response:
        """The handler that sends a browser to the provider."""
        self._check(request)
        attempt = Attempt.new(own_path(request.parameter("next") or "/"))
        try:
            address = await trio.to_thread.run_sync(
                self._provider.begin, attempt, self._address(request, CALLBACK),
                limiter=self._limiter,
            )  # fmt: skip
        except PolicyError as error:
            raise _unavailable(error) from error
        cookie = session_cookie(_written(attempt), _ATTEMPT_SECONDS, _COOKIE)
        headers = [("location", address), ("cache-control", "no-store"), cookie]
        return Response(status=303, headers=headers)

    async def finish(self, request: Request) -> Response:
        """The handler to which the provider sends a browser back."""
        self._check(request)
        attempt = _read(cookie_of(request, _COOKIE))
        said = request.parameter("state") or ""
        if attempt is None or not hmac.compare_digest(said.encode(), attempt.state.encode()):
            raise HttpError(
                400,
                "OTHER_SIGN_IN",
                "this browser has begun no such sign-in, or too long ago; sign in once more",
            )
        issuer = request.parameter("iss")
        if issuer is not None and issuer != self._provider.rules.issuer:
            raise self._refused(request, "the answer is of another provider (iss)")
        code = request.parameter("code") or ""
        if not 0 < len(code) <= _MOST_CODE:
            why = _word(request.parameter("error") or "no code")
            raise self._refused(request, f"the provider says {why}", is_counted=False)
        try:
            finish = partial(self._provider.finish, code, attempt, self._address(request, CALLBACK))
            person = await trio.to_thread.run_sync(finish, limiter=self._limiter)
        except ProviderUnavailableError as error:
            raise _unavailable(error) from error
        except PolicyError as error:
            raise self._refused(request, str(error)) from error
        cookie = await self._session(request, person)
        gone = session_cookie("", 0, _COOKIE)
        return Response(status=303, headers=[("location", attempt.goes_to), cookie, gone])

    async def logout(self, request: Request, session: Session) -> str:
        """Where a browser is sent to sign out at the provider, too; empty: nowhere."""
        if session.provider != self._provider.rules.issuer:
            return ""
        after = self._address(request, "/sign-in")
        return await trio.to_thread.run_sync(
            self._provider.logout, session.id_token, after, limiter=self._limiter
        )

    async def _session(self, request: Request, person: Person) -> tuple[str, str]:
        policy = self._access.policy
        user = policy.user_of_subject(person.subject)
        if user is not None and not user.active:
            raise self._refused(request, f"the user {user.name} is not active", is_counted=False)
        # Also those that the policy does not have (any more): one may say that somebody is given
        # de-identified objects only.
        is_known = any(one in policy.all_roles for one in person.roles)
        roles = tuple(person.roles) if user is None and is_known else ()
        if user is None and not roles:
            raise self._refused(
                request,
                f"{person.name} is no user here, and none of the groups has a role (oidc.roles)",
                is_counted=False,
            )
        name = person.name if user is None else user.name
        keeper = self._sessions.keeper
        try:
            secret = await keeper.begin(
                name,
                request.host,
                roles=roles,
                provider=self._provider.rules.issuer,
                id_token=person.id_token,
            )
        except StorageError as error:
            log.error("a session cannot be kept: %s", error)
            raise HttpError(
                503, "UNAVAILABLE", "nobody can sign in now; try again later"
            ) from error
        assert secret is not None  # no one-time code was shown here
        self._notices.publish(SignedIn(caller=caller_named(request, name)))
        return session_cookie(secret, int(keeper.rules.most))

    def _address(self, request: Request, path: str) -> str:
        return self._urls.base(request).removesuffix(ROOT) + path

    def _check(self, request: Request) -> None:
        if not self._sessions.is_secure(request):
            raise HttpError(403, "NOT_SECURE", "sign in over TLS (https): see web.https_host")
        left = ceil(self._failures.seconds_left(request.host))
        if left:
            raise HttpError(
                429,
                "TOO_MANY_FAILURES",
                "too many have failed to sign in from there; wait a moment",
                [("retry-after", str(left))],
            )

    def _refused(self, request: Request, why: str, *, is_counted: bool = True) -> HttpError:
        """Whoever signs in is told why: the provider knows them, and nothing is guessed here."""
        if is_counted:
            self._failures.count(request.host)
        self._notices.publish(SignInFailed(caller=caller_of(request), kind="oidc", why=why))
        return HttpError(403, "NOT_SIGNED_IN", f"you are not signed in: {why}")


def _unavailable(error: Exception) -> HttpError:
    log.error("nobody can sign in at the provider: %s", error)
    return HttpError(503, "PROVIDER", f"nobody can sign in that way now: {error}")


def _word(said: str) -> str:
    """A code of an error, as somebody has put it into the address."""
    return "".join(one for one in said if one.isalnum() or one in "_ ")[:64]


def _written(attempt: Attempt) -> str:
    members = [attempt.state, attempt.nonce, attempt.verifier, attempt.goes_to]
    return base64.urlsafe_b64encode(orjson.dumps(members)).rstrip(b"=").decode()


def _read(text: str) -> Attempt | None:
    """None: it is no such thing."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        members = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        return None
    if not (
        isinstance(members, list)
        and len(members) == 4
        and all(isinstance(one, str) and one for one in members)
    ):
        return None
    state, nonce, verifier, goes_to = members
    return Attempt(state=state, nonce=nonce, verifier=verifier, goes_to=own_path(goes_to))
