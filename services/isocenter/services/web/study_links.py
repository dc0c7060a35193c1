"""Links to studies as operations: made, listed, revoked, each told with who did it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.notices import Notices
from isocenter.services.security.access.ports import ShareLink, ShareLinks
from isocenter.services.security.access.share_links import (
    ShareLinkChanged,
    ShareLinkVerifier,
    new_link,
)
from isocenter.services.web.principal import Principal, caller_name, caller_of, what_may

#: Links that a page lists.
MOST_LISTED: Final = 500


class StudyLinks:
    """Makes and ends links in the name of callers."""

    def __init__(self, verifier: ShareLinkVerifier, notices: Notices) -> None:
        self._links: ShareLinks = verifier.links
        self.now = verifier.now
        self._notices = notices

    async def add(
        self,
        request: Request,
        study_instance_uid: str,
        *,
        label: str = "",
        days: int = 7,
        may_download: bool = False,
        passcode: str = "",
        is_for_viewer: bool = False,
    ) -> tuple[str, ShareLink]:
        """A new link of the caller of *request*: its text, and what is kept of it.

        Raises:
            PolicyError: it cannot be made so.
            StorageError: it cannot be kept.
        """
        caller = caller_of(request)
        make = partial(
            new_link,
            study_instance_uid,
            created_by=caller_name(caller),
            user=_policy_user(request),
            label=label,
            days=days,
            may_download=may_download,
            passcode=passcode,
            is_for_viewer=is_for_viewer,
            now=self.now(),
        )
        text, link = await trio.to_thread.run_sync(make)
        await self._links.add(link)
        self._notices.publish(ShareLinkChanged(caller=caller, link=link, is_new=True))
        return text, link

    async def listed(self, request: Request) -> Sequence[ShareLink]:
        """The links that the caller may see: its own, or all for who administers."""
        found = await self._links.all(MOST_LISTED)
        return [one for one in found if self._is_for(request, one)]

    async def revoke(self, request: Request, link_id: str) -> None:
        """End a link.

        Raises:
            HttpError: the caller sees none of that ID, or it had ended (404).
        """
        link = await self._links.find(link_id)
        if (
            link is None
            or not self._is_for(request, link)
            or not await self._links.revoke(link_id, self.now())
        ):
            raise HttpError(404, "NOT_FOUND", "there is no such link, or it is revoked already")
        self._notices.publish(ShareLinkChanged(caller=caller_of(request), link=link, is_new=False))

    @staticmethod
    def _is_for(request: Request, link: ShareLink) -> bool:
        if "configure" in what_may(request.caller):
            return True
        caller = caller_of(request)
        return link.created_by == caller_name(caller) and link.user == _policy_user(request)


def _policy_user(request: Request) -> str:
    """The user whose link it becomes; empty: who calls is none of the policy."""
    caller = request.caller
    return caller.user if isinstance(caller, Principal) and caller.is_policy_user else ""
