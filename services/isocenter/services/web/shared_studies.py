"""Callers with a link to one study, and their rights.

A link is opened in a browser, which says the passcode where there is one and gets a session of its
own kind; or it is shown as a bearer token (RFC 6750) by a viewer.
"""

from __future__ import annotations

import logging
from math import ceil
from typing import Final

import trio

from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import Headers, HttpError, Request
from isocenter.services.notices import Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.failed_sign_ins import FailedSignIns, SignInFailed
from isocenter.services.security.access.passwords import verify_passcode
from isocenter.services.security.access.ports import Session, ShareLink
from isocenter.services.security.access.sessions import SignedIn
from isocenter.services.security.access.share_links import (
    ShareLinkVerifier,
    link_owner,
    link_permissions,
)
from isocenter.services.web.browser_sessions import SHARE_COOKIE, BrowserSessions, session_cookie
from isocenter.services.web.principal import Principal, caller_of

log = logging.getLogger("isocenter.access")

#: The user of a session that a link has opened; no user of a policy is believed for it.
_SESSION_USER: Final = "link:"
_MOST_AT_ONCE: Final = 2
_MOST_PASSCODE: Final = 1_024


class SharedStudies:
    """Says what links are worth.

    Args:
        failures: that are counted with those of other sign-ins.
    """

    def __init__(
        self,
        verifier: ShareLinkVerifier,
        access: PolicyAccessControl,
        sessions: BrowserSessions,
        notices: Notices,
        failures: FailedSignIns,
    ) -> None:
        self._verifier = verifier
        self._access = access
        self._sessions = sessions
        self._notices = notices
        self._failures = failures
        self._limiter = trio.CapacityLimiter(_MOST_AT_ONCE)

    async def find(self, request: Request, text: str) -> ShareLink:
        """The link that a request shows.

        Raises:
            HttpError: it is not believed (404, whatever the reason), too many were not from there
                (429), or nobody can tell (503).
        """
        self._check_failures(request)
        try:
            link = await self._verifier.verify(text)
            link_permissions(link, self._access.policy)
        except PolicyError as error:
            raise self._failed(request, str(error)) from None
        except StorageError as error:
            log.error("a link cannot be looked up: %s", error)
            raise _unavailable() from error
        return link

    async def open(self, request: Request, link: ShareLink, passcode: str) -> Headers | None:
        """Begin the session of a browser; the headers with its cookie.  None: the passcode is
        wrong.

        Raises:
            HttpError: not over TLS (403), too many were wrong (429), or not now (503).
        """
        if not self._sessions.is_secure(request):
            raise HttpError(403, "NOT_SECURE", "open the link over TLS (https)")
        self._sessions.check_origin(request, is_known=False)
        self._check_failures(request)
        if link.passcode_hash:
            said = passcode.encode()
            try:
                is_right = len(said) <= _MOST_PASSCODE and await trio.to_thread.run_sync(
                    verify_passcode, link.passcode_hash, said, limiter=self._limiter
                )
            except PolicyError as error:
                raise _unavailable() from error
            if not is_right:
                self._failed(request, f"the passcode of link {link.link_id} is wrong")
                return None
        keeper = self._sessions.keeper
        try:
            secret = await keeper.begin(f"{_SESSION_USER}{link.link_id}", request.host)
            await self._verifier.links.note_use(link.link_id, self._verifier.now())
        except StorageError as error:
            log.error("the session of a link cannot be kept: %s", error)
            raise _unavailable() from error
        assert secret is not None  # no one-time code was shown
        request.caller = self._principal(link)
        self._notices.publish(SignedIn(caller=caller_of(request)))
        return (session_cookie(secret, int(keeper.rules.most), SHARE_COOKIE),)

    async def by_token(self, request: Request, text: str) -> Principal:
        """Who shows a link as a bearer token.

        Raises:
            HttpError: as of `find`; and a link with a passcode is opened in a browser only (404).
        """
        link = await self.find(request, text)
        if link.passcode_hash:
            raise self._failed(request, f"the link {link.link_id} needs its passcode")
        return self._principal(link)

    async def by_session(self, request: Request, *, is_use: bool = True) -> Principal | None:
        """Who has opened a link in this browser; None: nobody, or that is over.

        Raises:
            HttpError: nobody can tell (503).
        """
        try:
            session = await self._sessions.find(request, is_use=is_use, cookie=SHARE_COOKIE)
            if session is None or not session.user.startswith(_SESSION_USER):
                return None
            link_id = session.user.removeprefix(_SESSION_USER)
            link = await self._verifier.still_valid(link_id)
            return None if link is None else self._principal(link, session)
        except PolicyError:
            return None
        except StorageError as error:
            log.error("the session of a link cannot be looked up: %s", error)
            raise _unavailable() from error

    async def is_good_still(self, request: Request, principal: Principal) -> bool:
        """Whether the link of a caller is worth something still."""
        try:
            link = await self._verifier.still_valid(principal.link_id)
            if link is not None:
                self._principal(link)
        except PolicyError:
            return False
        except StorageError:
            return True  # it is asked again in a moment
        return link is not None

    def _principal(self, link: ShareLink, session: Session | None = None) -> Principal:
        """Raises:
        PolicyError: whoever has made it may not do so much any more.
        """
        ends = [link.expires_at] if session is None else [link.expires_at, session.expires_at]
        return Principal(
            permissions=link_permissions(link, self._access.policy),
            user=link_owner(link),
            study=link.study_instance_uid,
            link_id=link.link_id,
            ends_at=min(ends),
        )

    def _check_failures(self, request: Request) -> None:
        left = ceil(self._failures.seconds_left(request.host))
        if left:
            raise HttpError(
                429,
                "TOO_MANY_FAILURES",
                "too many have tried wrong links or passcodes from there; wait a moment",
                [("retry-after", str(left))],
            )

    def _failed(self, request: Request, why: str) -> HttpError:
        """Told here with the reason, and to the caller without: nobody learns of a link."""
        self._failures.count(request.host)
        self._notices.publish(SignInFailed(caller=caller_of(request), kind="share_link", why=why))
        return HttpError(
            404,
            "NO_SUCH_LINK",
            "this link is not valid, or not any more; ask whoever gave it to you",
        )


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "no link can be opened now", [("retry-after", "5")])
