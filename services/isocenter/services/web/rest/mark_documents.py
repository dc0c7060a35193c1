"""Objects made of marks, in the API: presentation states, reports, key object selections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.mark_documents import Choice, MadeObject, MarkDocuments
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.marks import SERVICE

Options = TypeVar("Options", bound=Body)

_ANSWERS: Final = (
    ok("The objects are stored.", status=201),
    Answer(400, "It makes no sense."),
    Answer(404, "There is nothing to make an object of."),
    Answer(406, "An image cannot be read, or codecs are needed that are not installed."),
    Answer(409, "The archive has refused an object."),
    Answer(410, "An image is not there any more."),
    Answer(413, "Too many marks, or on too many images, at once."),
    Answer(503, "There is no room now."),
)


class ReportOptions(Body):
    """Which marks of the study objects are made of: these, or of this person, or all."""

    ids: list[str] = msgspec.field(default_factory=list)
    user_id: str = ""


class StateOptions(Body):
    """Which annotations presentation states are made of, and how those are called."""

    ids: list[str] = msgspec.field(default_factory=list)
    user_id: str = ""
    label: str = "ANNOTATIONS"
    description: str = ""


class SelectionOptions(Body):
    """Which key images key object selections are made of: of one title only, if one is said."""

    ids: list[str] = msgspec.field(default_factory=list)
    user_id: str = ""
    document_title: str = ""


class MadeDocument(Body):
    """An object that was made and stored."""

    document_title: str
    user_id: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    referenced_instances: list[str]
    marks: int


class MadeObjects(Body):
    """What was made: one object for each author, and for what cannot stand in one."""

    document_type: str
    study_uid: str
    documents: list[MadeDocument]


class MarkDocumentsApi:
    """Has objects made of marks."""

    def __init__(self, documents: MarkDocuments) -> None:
        self._documents = documents

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are asked for."""
        for what, end, handler, takes, name, text in (
            ("annotations", "export-ps", self.states, StateOptions, "ExportAnnotations",
             "Make presentation states of the annotations of a study."),
            ("measurements", "export-sr", self.reports, ReportOptions, "ExportMeasurements",
             "Make measurement reports (TID 1500) of the measurements of a study."),
            ("key-images", "export-sr", self.selections, SelectionOptions, "ExportKeyImages",
             "Make key object selections of the key images of a study."),
        ):  # fmt: skip
            yield endpoint(
                "POST", f"/studies/{{study}}/{what}/{end}", handler, text, name=name,
                service=SERVICE, needs="write", takes=takes, gives=MadeObjects, answers=_ANSWERS,
            )  # fmt: skip

    async def states(self, request: Request) -> Response:
        """The handler."""
        said = await _read(request, StateOptions)
        found = await self._documents.states(
            caller_of(request),
            request.arguments["study"],
            Choice(ids=said.ids, author=said.user_id),
            label=said.label,
            description=said.description,
        )
        return _made(request, "PR", found)

    async def reports(self, request: Request) -> Response:
        """The handler."""
        said = await _read(request, ReportOptions)
        choice = Choice(ids=said.ids, author=said.user_id)
        found = await self._documents.reports(
            caller_of(request), request.arguments["study"], choice
        )
        return _made(request, "SR", found)

    async def selections(self, request: Request) -> Response:
        """The handler."""
        said = await _read(request, SelectionOptions)
        found = await self._documents.selections(
            caller_of(request),
            request.arguments["study"],
            Choice(ids=said.ids, author=said.user_id),
            document_title=said.document_title,
        )
        return _made(request, "KO", found)


def _made(request: Request, modality: str, found: Sequence[MadeObject]) -> Response:
    documents = [
        MadeDocument(
            document_title=one.title,
            user_id=one.author,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            series_instance_uid=one.series_instance_uid,
            referenced_instances=list(one.referenced),
            marks=one.marks,
        )
        for one in found
    ]
    study = request.arguments["study"]
    return answer(MadeObjects(document_type=modality, study_uid=study, documents=documents), 201)


async def _read(request: Request, kind: type[Options]) -> Options:
    """The options in a body; without one, those that stand when nothing is said."""
    if request.content_length == 0 or (
        request.content_length is None and not request.header("transfer-encoding")
        and not request.header("content-type")
    ):  # fmt: skip
        return kind()
    return await read_body(request, kind)
