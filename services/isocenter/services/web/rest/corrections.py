"""Corrections in the API: previewed, ordered, listed, undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, assert_never

import msgspec

from isocenter.services.archive.corrections.planning import CorrectionError, CorrectionPlan
from isocenter.services.archive.corrections.ports import CorrectionRefusedError, CorrectionSummary
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.corrections.values import PatientKey, Scope
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_attribute_path
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.cursors import Key
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import ROOT, endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    PageRequest,
    link_headers,
    page_of_some,
    page_request,
)
from isocenter.services.web.rest.policy_answers import moment, not_found

_SERVICE: Final = "Corrections"
_PATH: Final = "/corrections"
_ONE: Final = f"{_PATH}/{{number}}"
_MOST_REASON: Final = 500
_MOST_DIGITS: Final = 18

Kind = Literal[
    "correct", "merge patients", "merge studies", "move study", "move series", "split study"
]


class PatientId(Body):
    """A patient: an ID, and its issuer where objects name one."""

    id: str
    issuer: str = ""


class CorrectionRequest(Body):
    """What is to be corrected, and how.

    `correct`: `changes`, from keyword or tag to value (null: the attribute is removed), of a
    `patient`, a `study`, or the one of its `series`.  `merge patients`: `patient` into
    `into_patient`.  `move study`: `study` to `into_patient`.  `merge studies`: `study` into
    `into_study`.  `move series`: `series` of `study` into `into_study`.  `split study`: `series` of
    `study` become a new one.  A preview needs no `reason`.
    """

    kind: Kind
    patient: PatientId | None = None
    study: str = ""
    series: tuple[str, ...] = ()
    into_patient: PatientId | None = None
    into_study: str = ""
    changes: dict[str, str | None] = msgspec.field(default_factory=dict)
    reason: str = ""


class Before(Body):
    """A value that so many instances have now."""

    value: str
    instances: int


class Change(Body):
    """What becomes of one attribute; `after` is null where it is removed."""

    tag: str
    keyword: str
    before: list[Before]
    after: str | None


class Preview(Body):
    """What a correction would change; `changed` counts the instances that do not say so already."""

    kind: str
    instances: int
    series: int
    studies: int
    changed: int
    bytes: int
    changes: list[Change]
    new_study: str
    notes: list[str]


class Corrected(Body):
    """A correction, and how far it is; `fault`: of one of those that failed."""

    number: int
    kind: str
    ordered_at: str | None
    by: str
    reason: str
    instances: int
    corrected: int
    failed: int
    fault: str
    undone_at: str | None
    undone_by: str
    undo_reason: str


class Reason(Body):
    """Why; it stands in the audit trail."""

    reason: str


class CorrectionApi:
    """Answers with corrections, orders and undoes them."""

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        refused = Answer(409, "A study is held, or there is nothing to be changed.")
        yield endpoint(
            "GET", _PATH, self.list, "Corrections, the latest first.", name="ListCorrections",
            service=_SERVICE, needs="correct", gives=Page[Corrected], parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.order,
            "Have something corrected; it is done in the background, study by study.",
            name="OrderCorrection", service=_SERVICE, needs="correct", takes=CorrectionRequest,
            gives=Corrected,
            answers=(ok("It is ordered.", status=202, headers=("Location",)), refused),
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_PATH}/preview", self.preview, "What a correction would change.",
            name="PreviewCorrection", service=_SERVICE, needs="correct", takes=CorrectionRequest,
            gives=Preview,
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One correction.", name="GetCorrection", service=_SERVICE,
            needs="correct", gives=Corrected,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/undo", self.undo, "Have a correction hold no more.",
            name="UndoCorrection", service=_SERVICE, needs="correct", takes=Reason,
            gives=Corrected, answers=(ok("It is ordered.", status=202),),
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/retry", self.retry, "Try again what could not be corrected.",
            name="RetryCorrection", service=_SERVICE, needs="correct", gives=Corrected,
            answers=(ok("It is ordered.", status=202),),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted = page_request(request)
        rows = await self._corrections.book.rows(
            before=_before(wanted), limit=wanted.offset + wanted.limit + 1
        )
        made = page_of_some(rows[wanted.offset :], wanted, _latest_first)
        page = Page(data=[_corrected(one) for one in made.data], pagination=made.pagination)
        return answer(page, headers=link_headers(request, page))

    async def show(self, request: Request) -> Response:
        """The handler."""
        return answer(await self._of(_number(request)))

    async def preview(self, request: Request) -> Response:
        """The handler."""
        return answer(_preview(await self._plan(await read_body(request, CorrectionRequest))))

    async def order(self, request: Request) -> Response:
        """The handler."""
        wanted = await read_body(request, CorrectionRequest)
        reason = _reason(wanted.reason)
        plan = await self._plan(wanted)
        if not plan.instances:
            raise not_found("instance that is meant")
        if not plan.changed:
            raise HttpError(409, "NOTHING_TO_CORRECT", "all of them say so already")
        try:
            number = await self._corrections.order(plan, _requester(request), reason)
        except CorrectionRefusedError as error:
            raise HttpError(409, "REFUSED", str(error)) from error
        location = ("location", f"{ROOT}{_PATH}/{number}")
        return answer(await self._of(number), 202, [location])

    async def undo(self, request: Request) -> Response:
        """The handler."""
        number = _number(request)
        reason = _reason((await read_body(request, Reason)).reason)
        try:
            await self._corrections.undo(number, _requester(request), reason)
        except CorrectionRefusedError as error:
            raise not_found("correction that could be undone") from error
        return answer(await self._of(number), 202)

    async def retry(self, request: Request) -> Response:
        """The handler."""
        number = _number(request)
        await self._of(number)
        await self._corrections.book.retry(number)
        return answer(await self._of(number), 202)

    async def _of(self, number: int) -> Corrected:
        summary = await self._corrections.book.get(number)
        if summary is None:
            raise not_found("correction")
        return _corrected(summary)

    async def _plan(self, wanted: CorrectionRequest) -> CorrectionPlan:
        planner = self._corrections.planner
        study = wanted.study
        try:
            match wanted.kind:
                case "correct":
                    changes = {_tag(name): value for name, value in wanted.changes.items()}
                    return await planner.correct(_scope(wanted), changes)
                case "merge patients":
                    return await planner.merge_patients(
                        _patient(wanted.patient, "patient"),
                        _patient(wanted.into_patient, "into_patient"),
                    )
                case "move study":
                    return await planner.move_study(
                        _uid(study), _patient(wanted.into_patient, "into_patient")
                    )
                case "merge studies":
                    return await planner.merge_studies(_uid(study), wanted.into_study)
                case "move series":
                    return await planner.move_series(_uid(study), wanted.series, wanted.into_study)
                case "split study":
                    return await planner.split_study(_uid(study), wanted.series, wanted.into_study)
                case _:
                    assert_never(wanted.kind)
        except CorrectionError as error:
            raise HttpError(400, "CANNOT_BE_CORRECTED", str(error)) from error


def _scope(wanted: CorrectionRequest) -> Scope:
    if wanted.patient is not None:
        return Scope(patient=_patient(wanted.patient, "patient"))
    if len(wanted.series) > 1:
        raise HttpError(400, "INVALID_REQUEST", "series are corrected one by one")
    (series,) = wanted.series or ("",)
    return Scope(study_instance_uid=_uid(wanted.study), series_instance_uid=series)


def _tag(name: str) -> int:
    try:
        sequences, tag = parse_attribute_path(name)
    except KeySyntaxError as error:
        raise HttpError(400, "INVALID_REQUEST", f"changes: {error}") from error
    if sequences:
        raise HttpError(400, "INVALID_REQUEST", "what is in a sequence cannot be corrected")
    return tag


def _uid(study: str) -> str:
    if not study:
        raise HttpError(400, "INVALID_REQUEST", "say which study")
    return study


def _patient(patient: PatientId | None, name: str) -> PatientKey:
    if patient is None or not patient.id.strip():
        raise HttpError(400, "INVALID_REQUEST", f"say the id of {name}")
    return PatientKey(patient.id.strip(), patient.issuer.strip())


def _reason(text: str) -> str:
    reason = text.strip()
    if not (reason and reason.isprintable() and len(reason) <= _MOST_REASON):
        raise HttpError(
            400, "REASON_MISSING", f"say why, in one line of at most {_MOST_REASON} characters"
        )
    return reason


def _requester(request: Request) -> Requester:
    return Requester(name=caller_name(caller_of(request)))


def _number(request: Request) -> int:
    text = request.arguments["number"]
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise not_found("correction")
    return int(text)


def _latest_first(one: CorrectionSummary) -> Key:
    return (one.correction.number,)


def _before(wanted: PageRequest) -> int:
    if wanted.after is None:
        return 0
    match wanted.after:
        case (int(number),) if 0 < number < 10**_MOST_DIGITS:
            return number
        case _:
            raise HttpError(400, "INVALID_REQUEST", "after: it is of no list of corrections")


def _corrected(one: CorrectionSummary) -> Corrected:
    correction = one.correction
    return Corrected(
        number=correction.number,
        kind=correction.kind.value,
        ordered_at=moment(correction.at),
        by=correction.actor,
        reason=correction.reason,
        instances=one.instances,
        corrected=one.done,
        failed=one.failed,
        fault=one.fault,
        undone_at=moment(one.undone_at),
        undone_by=one.undone_by,
        undo_reason=one.undo_reason,
    )


def _preview(plan: CorrectionPlan) -> Preview:
    return Preview(
        kind=plan.kind.value,
        instances=plan.instances,
        series=plan.series,
        studies=plan.studies,
        changed=plan.changed,
        bytes=plan.size,
        changes=[
            Change(
                tag=f"{each.tag:08X}",
                keyword=each.name,
                before=[Before(value=value, instances=count) for value, count in each.before],
                after=each.after,
            )
            for each in plan.differences
        ],
        new_study=plan.new_study_instance_uid,
        notes=list(plan.notes),
    )
