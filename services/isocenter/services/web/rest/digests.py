"""Digests of the objects of a study, for another archive that compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import Index
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, not_found

_SERVICE: Final = "Patients, studies and series"


class DigestShown(Body):
    """SHA-256 of the data set of an object as it is kept, in its transfer syntax;
    `received_digest`: as it came, if that was another."""

    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    received_digest: str = ""


class DigestList(Body):
    """The objects of a study."""

    objects: list[DigestShown]


class DigestApi:
    """Answers with digests."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/studies/{study}/digests", self.list,
            "Digests of the objects of a study, by which another archive sees whether it has the "
            "same.",
            name="ListDigests", service=_SERVICE, needs="search", gives=DigestList,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(request.arguments["study"]))
        objects: list[DigestShown] = []
        async with (
            changing(),
            self._index.instances(Query(level=Level.STUDY, criteria=(criterion,))) as blocks,
        ):
            async for block in blocks:
                objects += [
                    DigestShown(
                        sop_instance_uid=one.sop_instance_uid,
                        transfer_syntax_uid=one.transfer_syntax_uid,
                        digest=one.digest,
                        received_digest=one.received_digest,
                    )
                    for one in block
                ]
        if not objects:
            raise not_found("study")
        return answer(DigestList(objects=objects))
