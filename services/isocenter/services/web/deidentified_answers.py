"""Handlers that answer callers of a project of de-identification with nothing else.

Such a caller may have those routes alone that say themselves that they can be had: with a
`ByProject`, which answers from the archive as the project sees it, or `names_nobody`.  Whatever
else there is, or comes to be, is refused (`isocenter.services.web.access`).

One address may have other answers for others: where a project keeps UIDs, say, and two people use
one browser.  So what is kept of an answer is for those credentials alone, and callers of a project
ask each time whether it may be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from isocenter.services.archive.deidentification.index_view import (
    TooManyToCompareError,
    original_of,
)
from isocenter.services.archive.deidentification.service import (
    NotDeidentifiedError,
    UnknownProjectError,
)
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.principal import Principal

_NAMES_NOBODY: Final = "_names_nobody"
#: Fields of a request that say who asks.
_CREDENTIALS: Final = ("Authorization", "Cookie")


class ByProject:
    """A handler for each project, and one for all who are given objects as they are.

    Args:
        of_project: makes the handler of a project; of an empty name, of all others.
    """

    def __init__(self, of_project: Callable[[str], Handler]) -> None:
        self._of_project = of_project
        self._plain = of_project("")

    def with_plain(self, change: Callable[[Handler], Handler]) -> ByProject:
        """The same, with another handler for those who belong to no project."""
        made = ByProject(self._of_project)
        made._plain = change(self._plain)
        return made

    async def __call__(self, request: Request) -> Response:
        """The handler."""
        caller = request.caller
        project = caller.project if isinstance(caller, Principal) else ""
        if not project:
            return _kept_for_caller(await self._plain(request))
        try:
            answer = await self._of_project(project)(request)
            return _kept_for_caller(answer, asks_each_time=True)
        except HttpError as error:
            if isinstance(error.__cause__, NotDeidentifiedError):
                raise _refused(error.__cause__) from error
            raise
        except NotDeidentifiedError as error:
            raise _refused(error) from error
        except UnknownProjectError as error:
            raise HttpError(403, "NOT_ALLOWED", "its project de-identifies nothing") from error
        except TooManyToCompareError as error:
            raise HttpError(413, "TOO_BROAD", str(error)) from error
        finally:
            # The audit trail tells whose objects these are.
            if "instances" in request.told:
                request.told["instances"] = [original_of(one) for one in request.told["instances"]]


def _kept_for_caller(response: Response, *, asks_each_time: bool = False) -> Response:
    """*response*, if it may be kept at all, for whoever comes with these credentials."""
    headers = {name.lower(): value for name, value in response.headers}
    kept = headers.get("cache-control", "")
    if not kept or "no-store" in kept:
        return response
    varies = [headers.get("vary", ""), *_CREDENTIALS]
    changed = {"vary": ", ".join(filter(None, varies))}
    if asks_each_time:
        changed["cache-control"] = "private, no-cache"
    rest = [(name, value) for name, value in response.headers if name.lower() not in changed]
    return replace(response, headers=[*rest, *changed.items()])


def names_nobody(handler: Handler) -> Handler:
    """*handler*, whose answers have nothing of any patient."""

    async def answer(request: Request) -> Response:
        return await handler(request)

    setattr(answer, _NAMES_NOBODY, True)
    return answer


def is_for_projects(handler: Handler) -> bool:
    """Whether callers of a project may have what *handler* answers."""
    return isinstance(handler, ByProject) or getattr(handler, _NAMES_NOBODY, False)


def _refused(error: NotDeidentifiedError) -> HttpError:
    return HttpError(403, "NOT_DEIDENTIFIED", str(error))
