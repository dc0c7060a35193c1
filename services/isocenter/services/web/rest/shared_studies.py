"""Shared studies in the API: found, shown, and fetched from where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.jobs import Submitted
from isocenter.services.web.studies_elsewhere import DocumentQuery, StudiesElsewhere

_SERVICE: Final = "Sharing"
_PATH: Final = "/shared/{repository}/patients/{patient}/documents"
_ONE: Final = f"{_PATH}/{{document}}"
_ISSUER: Final = (
    Parameter(name="issuer", text="Issuer of Patient ID, where the Patient ID has one."),
)
_FAULTS: Final = (
    Answer(404, "There is no such repository, or it has no such document."),
    Answer(409, "It refuses, or nobody outside knows who gave the Patient ID."),
    Answer(502, "The repository cannot be reached, or does not answer as it ought to."),
    Answer(503, "Nothing can be read or written down now."),
)


class SharedDocumentShown(Body):
    """The manifest of a study that others have shared; `instances_here`: of that study."""

    document_uid: str
    study_instance_uid: str
    title: str
    created: str
    instances_here: int


class SharedDocumentsShown(Body):
    """Those of a patient."""

    documents: list[SharedDocumentShown]


class SharedSeriesShown(Body):
    """A series of a manifest, and where it can be had: `location_uid` is the Retrieve Location
    UID."""

    series_instance_uid: str
    instances: int
    wado_rs: str
    ae_title: str
    location_uid: str


class SharedStudyShown(Body):
    """What a manifest names; `place`: from where it would be fetched, or empty, and `obstacle` says
    why."""

    document_uid: str
    study_instance_uid: str
    instances: int
    instances_here: int
    series: list[SharedSeriesShown]
    place: str
    obstacle: str


class SharedStudiesApi:
    """Answers with what others have shared, and has it retrieved."""

    def __init__(self, elsewhere: StudiesElsewhere) -> None:
        self._elsewhere = elsewhere

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield endpoint(
            "GET", _PATH, self.list, "Manifests of a patient that a repository has.",
            name="ListSharedStudies", service=_SERVICE, needs="search",
            gives=SharedDocumentsShown, parameters=_ISSUER, answers=_FAULTS,
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "What a manifest names, read from the repository.",
            name="GetSharedStudy", service=_SERVICE, needs="search",
            gives=SharedStudyShown, parameters=_ISSUER, answers=_FAULTS,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/fetch", self.fetch,
            "Retrieve the study of a manifest from where it can be had.",
            name="FetchSharedStudy", service=_SERVICE, needs="write", gives=Submitted,
            parameters=_ISSUER, answers=(ok("A job does it.", status=202), *_FAULTS),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        found = await self._elsewhere.find(request, _wanted(request))
        here = await self._elsewhere.instances_here({one.study_instance_uid for one in found})
        return answer(
            SharedDocumentsShown(
                documents=[
                    SharedDocumentShown(
                        document_uid=one.uid,
                        study_instance_uid=one.study_instance_uid,
                        title=one.title,
                        created=one.created,
                        instances_here=here.get(one.study_instance_uid, 0),
                    )
                    for one in found
                ]
            )
        )

    async def show(self, request: Request) -> Response:
        """The handler."""
        found = await self._elsewhere.show(request, _wanted(request))
        manifest = found.manifest
        study = manifest.study_instance_uid
        here = await self._elsewhere.instances_here((study,))
        return answer(
            SharedStudyShown(
                document_uid=manifest.document_uid,
                study_instance_uid=study,
                instances=manifest.instance_count,
                instances_here=here.get(study, 0),
                series=[
                    SharedSeriesShown(
                        series_instance_uid=one.series_instance_uid,
                        instances=len(one.sop_instance_uids),
                        wado_rs=one.wado_rs,
                        ae_title=one.ae_title,
                        location_uid=one.location_uid,
                    )
                    for one in manifest.series
                ],
                place=found.place,
                obstacle=found.obstacle,
            )
        )

    async def fetch(self, request: Request) -> Response:
        """The handler."""
        job_id, is_new = await self._elsewhere.fetch(request, _wanted(request))
        return answer(Submitted(job_id=job_id, is_new=is_new), 202)


def _wanted(request: Request) -> DocumentQuery:
    arguments = request.arguments
    return DocumentQuery(
        repository=arguments["repository"],
        patient_id=arguments["patient"],
        issuer=request.parameter("issuer") or "",
        document=arguments.get("document", ""),
    )
