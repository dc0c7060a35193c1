"""FHIR read service: its routes, and what they answer (FHIR R4 and R5 3.2.0)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Final
from urllib.parse import urlencode

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import BY_KEYWORD, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, ValueList
from isocenter.services.archive.ports import Index
from isocenter.services.integration.sharing.fhir_values import FhirRelease, Json
from isocenter.services.integration.sharing.imaging_study import (
    imaging_study,
    patient_resource,
)
from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    ManifestPatient,
    ManifestSeries,
    Retrieval,
    StudyManifest,
)
from isocenter.services.integration.sharing.manifest_reader import (
    SERIES_TAGS,
    STUDY_TAGS,
    ManifestReader,
    Match,
    patient_of,
    series_of,
    value,
)
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.cursors import place_cursor, read_cursor, read_place
from isocenter.services.web.dicomweb.deletion import Trashed
from isocenter.services.web.dicomweb.urls import ROOT as DICOMWEB_ROOT
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.fhir.answers import (
    FHIR_JSON,
    ROOT,
    check_accepted,
    fhir_response,
    search_set,
)
from isocenter.services.web.fhir.capability_statement import capability_statement
from isocenter.services.web.fhir.searches import CURSOR, Search, Searches
from isocenter.services.web.principal import PUBLIC
from isocenter.services.web.study_scope import narrowed

_PATIENT_TAGS: Final = tuple(
    BY_KEYWORD[keyword].tag
    for keyword in (
        "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
    )
)  # fmt: skip
_SERVICE: Final = "FHIR: ImagingStudy and Patient"
_NAMES: Final = {Level.STUDY: "ImagingStudy", Level.PATIENT: "Patient"}
#: Matches that ``_summary=count`` counts.
_MOST_COUNTED: Final = 100_000
#: A resource that is not whole (http://terminology.hl7.org/CodeSystem/v3-ObservationValue).
_SUBSETTED: Final = {
    "tag": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
            "code": "SUBSETTED",
        }
    ]
}
_SEARCHED: Final = (
    ok("A Bundle of what was found."),
    Answer(400, "A parameter makes no sense."),
    Answer(406, "Not as JSON of this release."),
)
_READ: Final = (
    ok("The resource."),
    Answer(404, "The archive has it not."),
    Answer(406, "Not as JSON of this release."),
    Answer(410, "It was deleted, and is in the trash."),
    Answer(422, "FHIR cannot express it, or it is of two patients."),
)
_QUERY: Final = (Parameter(name="*", text="Search parameters of FHIR.", is_any=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirOptions:
    """How an archive is told of in FHIR.

    Attributes:
        retrieval: where instances can be had; without an address of WADO-RS: here, under the name
            that the caller uses.
        zone: of the clocks of the archive; None: that of this machine.
        version: of this program.
        since: the date of the service, for its CapabilityStatement.
    """

    retrieval: Retrieval
    authorities: AssigningAuthorities
    zone: tzinfo | None = None
    version: str = ""
    since: str = "2026-11-30"


class FhirService:
    """Answers reads and searches from an index.

    Args:
        trashed: tells what was deleted from what was never here; None: nobody does.
    """

    def __init__(
        self, index: Index, urls: PublicUrls, options: FhirOptions, trashed: Trashed | None = None
    ) -> None:
        self._index = index
        self._urls = urls
        self._options = options
        self._trashed = trashed
        self._searches = Searches(options.authorities, options.zone)

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is asked, for each release."""
        for release in FhirRelease:
            yield self._route(release, "/metadata", self._metadata, "What is answered.", PUBLIC)
            for path, handler, text in (
                ("/ImagingStudy", self._search_studies, "Search for imaging studies."),
                ("/Patient", self._search_patients, "Search for patients."),
            ):
                yield self._route(release, path, handler, text, "search", _SEARCHED, _QUERY)
            read_study = self._read_study
            for path, reader, text in (
                ("/ImagingStudy/{study}", read_study, "An imaging study."),
                ("/Patient/{patient}", self._read_patient, "A patient."),
            ):
                yield self._route(release, path, reader, text, "search", _READ)

    def _route(
        self,
        release: FhirRelease,
        path: str,
        answer: Callable[[Request, FhirRelease], Awaitable[Response]],
        text: str,
        needs: str,
        answers: tuple[Answer, ...] = (ok("The resource."),),
        parameters: tuple[Parameter, ...] = (),
    ) -> Route[Handler]:
        async def handler(request: Request) -> Response:
            check_accepted(request, release)
            return await answer(request, release)

        told = self._trashed.telling(handler) if self._trashed and "{study}" in path else handler
        words = "".join(part.strip("{}").title() for part in path.split("/"))
        return Route(
            method="GET", path=f"{ROOT}/{release.value}{path}", handler=told, text=text,
            needs=needs, name=f"Fhir{release.value.upper()}{words}", service=_SERVICE,
            parameters=parameters, produces=(FHIR_JSON,), answers=answers,
        )  # fmt: skip

    def _base(self, request: Request, release: FhirRelease) -> str:
        root = self._urls.base(request).removesuffix(DICOMWEB_ROOT)
        return f"{root}{ROOT}/{release.value}"

    def _reader(self, request: Request) -> ManifestReader:
        retrieval = self._options.retrieval
        if not retrieval.wado_rs:
            retrieval = replace(retrieval, wado_rs=self._urls.base(request))
        return ManifestReader(self._index, retrieval, self._options.authorities)

    # -- Reads -----------------------------------------------------------------------------

    async def _metadata(self, request: Request, release: FhirRelease) -> Response:
        searches = self._searches
        return fhir_response(
            capability_statement(
                release,
                base=self._base(request, release),
                version=self._options.version,
                date=self._options.since,
                parameters={
                    "ImagingStudy": searches.of_studies,
                    "Patient": searches.of_patients,
                },
            ),
            release,
        )

    async def _read_study(self, request: Request, release: FhirRelease) -> Response:
        try:
            manifest = await self._reader(request).read(request.arguments["study"])
            if manifest is None:
                raise HttpError(404, "NOT_FOUND", "the archive has no such study")
            request.told["matches"] = 1
            # Thousands of instances take a while to write.
            resource = await trio.to_thread.run_sync(self._study, manifest, release)
        except ManifestError as error:
            raise HttpError(422, "NOT_EXPRESSIBLE", str(error)) from error
        return fhir_response(resource, release)

    async def _read_patient(self, request: Request, release: FhirRelease) -> Response:
        search = self._searches.read(
            Level.PATIENT, [("_id", request.arguments["patient"])], is_strict=True
        )
        found: Sequence[Match] = ()
        if not search.is_empty:
            query = narrowed(search.query(_PATIENT_TAGS), request)
            found = (await self._index.find_page(query, Page(limit=1))).matches
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such patient")
        request.told["matches"] = 1
        return fhir_response(self._patient(patient_of(found[0])), release)

    # -- Searches --------------------------------------------------------------------------

    async def _search_studies(self, request: Request, release: FhirRelease) -> Response:
        search = self._read(request, Level.STUDY)
        found, links, total = await self._page(request, release, search, STUDY_TAGS)
        reader = self._reader(request)
        series: Mapping[str, Sequence[ManifestSeries]] = {}
        if search.summary != "true" and found:
            series = await self._series([value(one, "StudyInstanceUID") for one in found])
        resources: list[Json] = []
        lost = 0
        for match in found:
            uid = value(match, "StudyInstanceUID")
            try:
                resource = self._study(reader.study_of(match, series.get(uid, ())), release)
            except ManifestError:
                lost += 1
                continue
            resource["meta"] = dict(_SUBSETTED)
            for key, keyword in _COUNTS.items():
                resource[key] = int(value(match, keyword) or "0")
            resources.append(resource)
        included: list[Json] = []
        if search.includes_patients:
            patients = {patient_of(match): None for match in found}
            included = [self._patient(one) for one in patients if one.patient_id]
        warnings = []
        if lost:
            warnings.append(f"{lost} studies of this page have UIDs that FHIR cannot express")
        return self._found(
            request, release, search, resources, links, total, included=included, warnings=warnings
        )

    async def _search_patients(self, request: Request, release: FhirRelease) -> Response:
        search = self._read(request, Level.PATIENT)
        found, links, total = await self._page(request, release, search, _PATIENT_TAGS)
        resources = [self._patient(patient_of(match)) for match in found]
        return self._found(request, release, search, resources, links, total)

    def _read(self, request: Request, level: Level) -> Search:
        preferences = (request.header("prefer") or "").lower().replace(" ", "")
        return self._searches.read(level, request.query, is_strict="handling=strict" in preferences)

    async def _page(
        self, request: Request, release: FhirRelease, search: Search, tags: Sequence[int]
    ) -> tuple[Sequence[Match], list[tuple[str, str]], int | None]:
        """The matches of the page that is asked for, links to it and to the next, and how many
        there are in all, where that is known."""
        url = f"{self._base(request, release)}/{_NAMES[search.level]}"
        own = [*search.used, *([(CURSOR, search.cursor)] if search.cursor else ())]
        links = [("self", f"{url}?{urlencode(own)}" if own else url)]
        if search.is_empty:
            return (), links, 0
        query = narrowed(search.query(tags), request)
        if search.summary == "count" or search.count == 0:
            return (), links, await self._count(query)
        after = None
        if search.cursor is not None:
            after = read_place(search.level, read_cursor(search.cursor, CURSOR), CURSOR)
        page = await self._index.find_page(query, Page(limit=search.count + 1, after=after))
        found = page.matches[: search.count]
        total = None
        if len(page.matches) > search.count:
            cursor = place_cursor(search.level, page.places[search.count - 1])
            links.append(("next", f"{url}?{urlencode([*search.used, (CURSOR, cursor)])}"))
        elif after is None:
            total = len(found)
        return found, links, total

    async def _count(self, query: Query) -> int:
        count = 0
        async with self._index.find(replace(query, return_tags=())) as blocks:
            async for block in blocks:
                count += len(block)
                if count > _MOST_COUNTED:
                    raise HttpError(
                        413, "TOO_MANY", f"there are more than {_MOST_COUNTED}: ask for less"
                    )
        return count

    async def _series(self, studies: Sequence[str]) -> Mapping[str, Sequence[ManifestSeries]]:
        criterion = Criterion(UNIQUE_KEY[Level.STUDY], ValueList(tuple(studies)))
        query = Query(level=Level.SERIES, criteria=(criterion,), return_tags=SERIES_TAGS)
        found: dict[str, list[ManifestSeries]] = {}
        async with self._index.find(query) as blocks:
            async for block in blocks:
                for row in block:
                    found.setdefault(value(row, "StudyInstanceUID"), []).append(series_of(row))
        for some in found.values():
            some.sort(
                key=lambda one: (one.number is None, one.number or 0, one.series_instance_uid)
            )
        return found

    def _found(
        self,
        request: Request,
        release: FhirRelease,
        search: Search,
        resources: Sequence[Json],
        links: Sequence[tuple[str, str]],
        total: int | None,
        *,
        included: Sequence[Json] = (),
        warnings: Sequence[str] = (),
    ) -> Response:
        request.told["matches"] = len(resources)
        said = list(warnings)
        if search.ignored:
            said.append(f"{len(search.ignored)} parameters are not known and were left out")
        bundle = search_set(
            resources,
            base=self._base(request, release),
            links=links,
            included=included,
            total=total,
            warnings=said,
        )
        return fhir_response(bundle, release)

    def _study(self, manifest: StudyManifest, release: FhirRelease) -> Json:
        return imaging_study(manifest, release, zone=self._options.zone)

    def _patient(self, patient: ManifestPatient) -> Json:
        return patient_resource(patient, self._options.authorities)


_COUNTS: Final = {
    "numberOfSeries": "NumberOfStudyRelatedSeries",
    "numberOfInstances": "NumberOfStudyRelatedInstances",
}


def fhir_routes(
    index: Index, urls: PublicUrls, options: FhirOptions, trashed: Trashed | None = None
) -> Sequence[Route[Handler]]:
    """The routes of the service, below `ROOT`."""
    return tuple(FhirService(index, urls, options, trashed).routes())
