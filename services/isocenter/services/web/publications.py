"""Publishing of studies over the web: asked for by people and programs, recorded, answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.services.integration.sharing.manifest import ManifestError
from isocenter.services.integration.sharing.ports import Publication
from isocenter.services.integration.sharing.publishing import PublishingDesk
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.notices import FunctionUsed, Notices
from isocenter.services.web.principal import asker_of, caller_name, caller_of

#: Publications that are told of at once.
MOST_BEHIND: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """How a repository does.

    Attributes:
        documents: that it has.
    """

    name: str
    documents: int


class Publications:
    """What was published, and what is to be."""

    def __init__(self, desk: PublishingDesk, notices: Notices) -> None:
        self._desk = desk
        self._notices = notices

    async def of_study(self, request: Request) -> Sequence[Publication]:
        """What is known of the study that the path names, for each repository.

        Raises:
            HttpError: it cannot be read now (503).
        """
        try:
            return await self._desk.of_study(request.arguments["study"])
        except StorageError as error:
            raise _unavailable() from error

    async def repositories(self) -> Sequence[RepositoryState]:
        """Each of the settings.

        Raises:
            HttpError: it cannot be read now (503).
        """
        try:
            standing = await self._desk.standing()
        except StorageError as error:
            raise _unavailable() from error
        return [
            RepositoryState(name=name, documents=standing.get(name, 0))
            for name in self._desk.repositories
        ]

    async def behind(self) -> Sequence[Publication]:
        """What repositories have and ought not to, or the other way round; the oldest
        `MOST_BEHIND`.

        Raises:
            HttpError: it cannot be read now (503).
        """
        try:
            return await self._desk.behind(MOST_BEHIND)
        except StorageError as error:
            raise _unavailable() from error

    async def ask(
        self, request: Request, repository: str, *, is_withdrawn: bool
    ) -> tuple[str, bool]:
        """Have the study that the path names published, or withdrawn.

        Returns:
            The ID of the job, and False where one is at it already.

        Raises:
            HttpError: there is no such study or repository (404), it cannot be published (409), or
                nothing can be written down now (503).
        """
        study, caller = request.arguments["study"], caller_of(request)
        if repository not in self._desk.repositories:
            raise no_repository(self._desk.repositories)
        try:
            asked = await self._desk.ask(
                repository,
                study,
                is_wanted=not is_withdrawn,
                requested_by=caller_name(caller),
                asker=asker_of(request),
            )
        except ManifestError as error:
            raise HttpError(409, "NOT_PUBLISHED", str(error)) from error
        except StorageError as error:
            raise _unavailable() from error
        what = "withdrawn from" if is_withdrawn else "published to"
        told = f"study {study} {what} repository {repository}"
        self._notices.publish(FunctionUsed(caller=caller, what=told))
        return asked


def no_repository(known: Iterable[str]) -> HttpError:
    """A repository was named that the settings do not have; *known*: those that they have."""
    message = f"there is no such repository in the settings; there are {', '.join(known)}"
    return HttpError(404, "NOT_FOUND", message)


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "the archive cannot do that now", [("retry-after", "60")])
