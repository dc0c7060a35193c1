"""Publications in the API: manifests of studies in repositories of documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.integration.sharing.ports import Publication
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.publications import Publications
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.jobs import Submitted
from isocenter.services.web.rest.policy_answers import moment

_SERVICE: Final = "Sharing"
_PATH: Final = "/studies/{study}/publications"


class PublicationShown(Body):
    """A repository and what it has of a study: `state` is ``published``, ``outdated``, ``waiting``,
    ``sent``, ``to be withdrawn`` or ``not published``.  Where that is not what it ought to be,
    `behind_since` says since when, `fault` what went wrong last, `next_attempt_at` when it is tried
    again."""

    repository: str
    study_instance_uid: str
    state: str
    is_wanted: bool
    document_uid: str
    instances: int
    published_at: str | None
    behind_since: str | None
    next_attempt_at: str | None
    fault: str


class PublicationsShown(Body):
    """Each repository of the settings."""

    publications: list[PublicationShown]


class RepositoryShown(Body):
    """A repository of the settings, and how many documents it has."""

    name: str
    documents: int


class PublicationsBehind(Body):
    """What repositories have and ought not to, or the other way round: the oldest 200."""

    repositories: list[RepositoryShown]
    publications: list[PublicationShown]


class PublicationWanted(Body):
    """A repository that is to have a study; with `withdraw`, that is to have it no more."""

    repository: str
    withdraw: bool = False


class PublicationApi:
    """Answers with publications, and takes what is to be published."""

    def __init__(self, publications: Publications) -> None:
        self._publications = publications

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/publications", self.behind, "What repositories have and ought not to.",
            name="ListPublicationsBehind", service=_SERVICE, needs="search",
            gives=PublicationsBehind,
            answers=(Answer(503, "The archive cannot be read now."),),
        )  # fmt: skip
        yield endpoint(
            "GET", _PATH, self.list, "What repositories have of a study.",
            name="ListPublications", service=_SERVICE, needs="search", gives=PublicationsShown,
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.ask, "Publish the manifest of a study, or withdraw it.",
            name="PublishStudy", service=_SERVICE, needs="export", takes=PublicationWanted,
            gives=Submitted,
            answers=(
                ok("A job does it.", status=202),
                Answer(404, "There is no such repository."),
                Answer(409, "There is no such study, or it cannot be published."),
                Answer(503, "Nothing can be written down now."),
            ),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        found = await self._publications.of_study(request)
        return answer(PublicationsShown(publications=list(map(_shown, found))))

    async def behind(self, request: Request) -> Response:
        """The handler."""
        return answer(
            PublicationsBehind(
                repositories=[
                    RepositoryShown(name=one.name, documents=one.documents)
                    for one in await self._publications.repositories()
                ],
                publications=list(map(_shown, await self._publications.behind())),
            )
        )

    async def ask(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, PublicationWanted)
        job_id, is_new = await self._publications.ask(
            request, body.repository, is_withdrawn=body.withdraw
        )
        return answer(Submitted(job_id=job_id, is_new=is_new), 202)


def _shown(one: Publication) -> PublicationShown:
    return PublicationShown(
        repository=one.repository,
        study_instance_uid=one.study_instance_uid,
        state=one.state,
        is_wanted=one.is_wanted,
        document_uid=one.document_uid,
        instances=one.instances,
        published_at=moment(one.published_at),
        behind_since=moment(one.behind_since),
        next_attempt_at=moment(one.next_attempt_at),
        fault=one.fault,
    )
