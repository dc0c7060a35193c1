"""Patients, studies, series and instances in the API: found, listed, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query
from isocenter.services.archive.index.query import Page as IndexPage
from isocenter.services.archive.ports import Index
from isocenter.services.archive.selection import matches_of
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route
from isocenter.services.web.cursors import place_cursor, read_place
from isocenter.services.web.dicomweb.deletion import Deletion
from isocenter.services.web.dicomweb.search.request import parse_search
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.index_filters import (
    PATIENT_FILTERS,
    STUDY_FILTERS,
    filter_parameters,
    search_parameters,
)
from isocenter.services.web.rest.index_rows import (
    KEY_FIELDS,
    RETURNED,
    Instance,
    Match,
    Patient,
    Series,
    Study,
    criteria_of_patient,
    equals,
    instance_row,
    number_of,
    patient_row,
    read_patient_pk,
    series_row,
    study_row,
    value_of,
    within,
)
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    PageRequest,
    Pagination,
    link_headers,
    page_request,
)

_SERVICE: Final = "Patients, studies and series"
_NOT_THERE: Final = Answer(404, "The archive has it not.")
_SEVERAL: Final = Answer(409, "There are several; say which.")
_BROKEN: Final = Answer(400, "A filter or the page that is wanted makes no sense.")
_ISSUER: Final = Parameter(name="issuer", text="Issuer of Patient ID, where an ID has several.")
_OF_STUDY: Final = Parameter(
    name="study_uid", text="The study, where studies share a Series Instance UID."
)
_REASON: Final = Parameter(
    name="reason", text="Why, for the audit trail: at most 200 characters.", is_required=True
)


class BrowseApi:
    """Answers with what the archive has.

    Args:
        trash: None: nothing can be deleted.
    """

    def __init__(self, index: Index, trash: Trash | None) -> None:
        self._index = index
        self._deletion = (
            None
            if trash is None
            else Deletion(trash, name_of=lambda request: caller_name(caller_of(request)))
        )

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is asked."""
        yield _list(
            "/patients", self.patients, "Patients, by ID.", "ListPatients", Patient,
            filter_parameters(PATIENT_FILTERS),
        )  # fmt: skip
        yield _one("/patients/{patient}", self.patient, "A patient.", "GetPatient", Patient,
                   (_ISSUER,))  # fmt: skip
        yield _list(
            "/patients/{patient}/studies", self.studies_of_patient, "The studies of a patient.",
            "ListPatientStudies", Study, (_ISSUER,), (_NOT_THERE, _SEVERAL),
        )  # fmt: skip
        yield _list(
            "/studies", self.studies, "Studies, the newest first.", "ListStudies", Study,
            filter_parameters(STUDY_FILTERS),
        )  # fmt: skip
        yield _one("/studies/{study}", self.study, "A study.", "GetStudy", Study)
        yield _list(
            "/studies/{study}/series", self.series_of_study, "The series of a study, by number.",
            "ListStudySeries", Series, (), (_NOT_THERE,),
        )  # fmt: skip
        yield _list(
            "/studies/{study}/instances", self.instances_of_study,
            "The instances of a study, by series and number.", "ListStudyInstances", Instance, (),
            (_NOT_THERE,),
        )  # fmt: skip
        yield _one("/series/{series}", self.one_series, "A series.", "GetSeries", Series,
                   (_OF_STUDY,))  # fmt: skip
        yield _list(
            "/series/{series}/instances", self.instances_of_series,
            "The instances of a series, by number.", "ListSeriesInstances", Instance,
            (_OF_STUDY,), (_NOT_THERE, _SEVERAL),
        )  # fmt: skip
        if self._deletion is not None:
            yield endpoint(
                "DELETE", "/studies/{study}", self.delete,
                "Delete a study: it goes into the trash.", name="DeleteStudy", service=_SERVICE,
                needs="delete", parameters=(_REASON,),
                answers=(
                    _NOT_THERE,
                    Answer(400, "No reason is said, or none that can be kept."),
                    Answer(409, "It is held, promised, or yet to be sent; or it has just changed."),
                    Answer(503, "Nothing can be deleted now."),
                ),
            )  # fmt: skip

    # -- Patients -----------------------------------------------------------------------

    async def patients(self, request: Request) -> Response:
        """The handler."""
        search = parse_search(Level.PATIENT, {}, search_parameters(request, PATIENT_FILTERS))
        total = None
        if not search.query.criteria:
            total = (await self._index.statistics()).patients
        return await self._listed(request, search.query, patient_row, total)

    async def patient(self, request: Request) -> Response:
        """The handler."""
        return answer(patient_row(await self._patient_of(request)))

    async def studies_of_patient(self, request: Request) -> Response:
        """The handler."""
        match = await self._patient_of(request)
        criteria = criteria_of_patient(match)
        query = Query(level=Level.STUDY, criteria=criteria)
        return await self._listed(request, query, study_row)

    async def _patient_of(self, request: Request) -> Match:
        named = request.arguments["patient"]
        issuer = request.parameter("issuer")
        criteria = [equals("PatientID", named)]
        if issuer is not None:
            criteria.append(equals("IssuerOfPatientID", issuer))
        found = await self._find(Level.PATIENT, tuple(criteria), 2)
        if not found and (key := read_patient_pk(named)):
            found = await self._find(
                Level.PATIENT,
                tuple(equals(one, text) for one, text in zip(KEY_FIELDS, key, strict=False)),
                2,
            )
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such patient")
        if len(found) > 1:
            raise HttpError(
                409, "AMBIGUOUS", "several patients have this ID: say issuer, or use the pk"
            )
        return found[0]

    # -- Studies ------------------------------------------------------------------------

    async def studies(self, request: Request) -> Response:
        """The handler."""
        search = parse_search(Level.STUDY, {}, search_parameters(request, STUDY_FILTERS))
        total = None
        if not search.query.criteria and not search.query.combined:
            total = (await self._index.statistics()).studies
        return await self._listed(request, search.query, study_row, total)

    async def study(self, request: Request) -> Response:
        """The handler."""
        return answer(study_row(await self._study_of(request)))

    async def series_of_study(self, request: Request) -> Response:
        """The handler."""
        study = await self._study_of(request)
        query = within(Level.SERIES, study=value_of(study, "StudyInstanceUID"))
        total = number_of(study, "NumberOfStudyRelatedSeries")
        return await self._listed(request, query, series_row, total)

    async def instances_of_study(self, request: Request) -> Response:
        """The handler."""
        study = await self._study_of(request)
        query = within(Level.IMAGE, study=value_of(study, "StudyInstanceUID"))
        total = number_of(study, "NumberOfStudyRelatedInstances")
        return await self._instances(request, query, total or 0)

    async def delete(self, request: Request) -> Response:
        """The handler."""
        assert self._deletion is not None
        if not (request.parameter("reason") or "").strip():
            raise HttpError(400, "MISSING_REASON", "say why: reason=…, for the audit trail")
        return await self._deletion(request)

    async def _study_of(self, request: Request) -> Match:
        criteria = (equals("StudyInstanceUID", request.arguments["study"]),)
        found = await self._find(Level.STUDY, criteria, 1)
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such study")
        request.told["matches"] = 1
        return found[0]

    # -- Series and instances -----------------------------------------------------------

    async def one_series(self, request: Request) -> Response:
        """The handler."""
        return answer(series_row(await _series_of(self._index, request)))

    async def instances_of_series(self, request: Request) -> Response:
        """The handler."""
        series = await _series_of(self._index, request)
        query = within(
            Level.IMAGE,
            study=value_of(series, "StudyInstanceUID"),
            series=value_of(series, "SeriesInstanceUID"),
        )
        total = number_of(series, "NumberOfSeriesRelatedInstances")
        return await self._instances(request, query, total or 0)

    async def _instances(self, request: Request, query: Query, total: int) -> Response:
        found, following = await self._page(page_request(request), query)
        uids = [value_of(one, "SOPInstanceUID") for one in found]
        known = await self._index.get(uids)
        data = [
            instance_row(one, known[uid])
            for uid, one in zip(uids, found, strict=True)
            if uid in known
        ]
        return _paged(request, data, following, total)

    # -- All ----------------------------------------------------------------------------

    async def _listed(
        self,
        request: Request,
        query: Query,
        kind: Callable[[Match], Body],
        total: int | None = None,
    ) -> Response:
        wanted = page_request(request)
        found, following = await self._page(wanted, query)
        if total is None and following is None and wanted.after is None and not wanted.offset:
            total = len(found)
        return _paged(request, [kind(one) for one in found], following, total)

    async def _page(self, wanted: PageRequest, query: Query) -> tuple[Sequence[Match], str | None]:
        """A page of what is found, and the cursor of the next one; None: nothing is behind it."""
        asked = Query(
            level=query.level, criteria=query.criteria, combined=query.combined,
            return_tags=RETURNED[query.level],
        )  # fmt: skip
        after = None if wanted.after is None else read_place(query.level, wanted.after)
        # One more tells whether there is more.
        page = IndexPage(limit=wanted.limit + 1, offset=wanted.offset, after=after)
        found = await self._index.find_page(asked, page)
        if len(found.matches) <= wanted.limit:
            return found.matches, None
        last = found.places[wanted.limit - 1]
        return found.matches[: wanted.limit], place_cursor(query.level, last)

    async def _find(
        self, level: Level, criteria: tuple[Criterion, ...], limit: int
    ) -> Sequence[Match]:
        query = Query(level=level, criteria=criteria, return_tags=RETURNED[level])
        return await matches_of(self._index, query, IndexPage(limit=limit))


async def series_named(index: Index, request: Request) -> tuple[str, str]:
    """Study and Series Instance UID of the series in the path of a request.

    Raises:
        HttpError: the archive has it not (404), or in several studies (409).
    """
    series = await _series_of(index, request)
    return value_of(series, "StudyInstanceUID"), value_of(series, "SeriesInstanceUID")


async def _series_of(index: Index, request: Request) -> Match:
    study = request.parameter("study_uid") or ""
    criteria = within(Level.SERIES, study=study, series=request.arguments["series"]).criteria
    query = Query(level=Level.SERIES, criteria=criteria, return_tags=RETURNED[Level.SERIES])
    found = await matches_of(index, query, IndexPage(limit=2))
    if not found:
        raise HttpError(404, "NOT_FOUND", "the archive has no such series")
    if len(found) > 1:
        raise HttpError(409, "AMBIGUOUS", "several studies have this series: say study_uid")
    request.told["matches"] = 1
    return found[0]


def _paged(request: Request, data: list[Any], following: str | None, total: int | None) -> Response:
    request.told["matches"] = len(data)
    page: Page[Any] = Page(
        data=data, pagination=Pagination(count=len(data), total=total, next=following)
    )
    return answer(page, headers=link_headers(request, page))


# -- Routes -------------------------------------------------------------------------------


def _list(
    path: str,
    handler: Handler,
    text: str,
    name: str,
    kind: type,
    filters: tuple[Parameter, ...],
    answers: tuple[Answer, ...] = (),
) -> Route[Handler]:
    return endpoint(
        "GET", path, handler, text, name=name, service=_SERVICE, needs="search",
        gives=Page[kind],  # type: ignore[valid-type]  # known only here
        parameters=(*filters, *PAGE_PARAMETERS), answers=(_BROKEN, *answers),
    )  # fmt: skip


def _one(
    path: str,
    handler: Handler,
    text: str,
    name: str,
    kind: type,
    parameters: tuple[Parameter, ...] = (),
) -> Route[Handler]:
    answers = (_NOT_THERE, _SEVERAL) if parameters else (_NOT_THERE,)
    return endpoint(
        "GET", path, handler, text, name=name, service=_SERVICE, needs="search", gives=kind,
        parameters=parameters, answers=answers,
    )  # fmt: skip
