"""AI results in the API: findings, segments, and what people say of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from isocenter.services.integration.ai.assessment import (
    Assessment,
    AssessmentStatus,
    Opinion,
    Verdict,
)
from isocenter.services.integration.ai.desk import AiDesk, StudyResult
from isocenter.services.integration.ai.requests import ResultRecord
from isocenter.services.integration.ai.result_contents import Finding, Measured, Segment
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.ai_services import asking
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import moment

_SERVICE: Final = "AI results"
_MOST: Final = 1_000
_GONE: Final = Answer(404, "There is no such result.")


class OpinionGiven(Body):
    """What somebody says of a result: `accept`, `modify` (say in `comment`, or by `modified`, an
    object of the study, what is right) or `reject` (say in `reason` or `comment` why)."""

    verdict: Literal["accept", "modify", "reject"]
    status: Literal["draft", "final", "amended"] = "final"
    institution: str = ""
    comment: str = ""
    reason: str = ""
    modified: str = ""


class AssessmentShown(Body):
    """An assessment; `sop_instance_uid` is that of its report (Enhanced SR)."""

    sop_instance_uid: str
    study_instance_uid: str
    result: str
    service: str
    assessor: str
    verdict: str
    status: str
    institution: str
    comment: str
    reason: str
    modified: str
    predecessor: str
    at: str | None


class AssessmentList(Body):
    """Assessments, the latest first."""

    assessments: list[AssessmentShown]


class VerdictCount(Body):
    """Results of a service on which the last word is that; `service` is empty where none made
    them."""

    service: str
    verdict: str
    results: int


class VerdictCounts(Body):
    """How results were judged."""

    counts: list[VerdictCount]


class ResultShown(Body):
    """A report, segmentation, presentation state or key object selection of a study.

    `service` is empty where it came another way; `remark`: what of it is not as its IOD has it.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    service: str
    job_id: str
    algorithm: str
    algorithm_version: str
    remark: str
    at: str | None
    assessments: list[AssessmentShown]


class ResultWithheld(Body):
    """An object that came from a service and is not in the study; `state`: quarantined, refused,
    or stored, if it was deleted since."""

    sop_instance_uid: str
    sop_class_uid: str
    service: str
    state: str
    why: str
    at: str | None


class ResultList(Body):
    """Results of a study."""

    results: list[ResultShown]
    withheld: list[ResultWithheld]


class MeasuredShown(Body):
    """A measurement; `unit` in UCUM."""

    name: str
    value: float | None
    unit: str
    derivation: str


class FindingShown(Body):
    """What a report says of images: `instances` and `segments` are those that it refers to,
    `points` those of its region."""

    type: str
    site: str
    tracking: str
    tracking_uid: str
    certainty: MeasuredShown | None
    measurements: list[MeasuredShown]
    graphic: str
    points: list[float]
    instances: list[str]
    segments: list[int]


class SegmentShown(Body):
    """A segment of a segmentation; `colour` as `#rrggbb`."""

    number: int
    label: str
    description: str
    category: str
    type: str
    algorithm_type: str
    algorithm: str
    tracking_uid: str
    colour: str


class ResultContentsShown(Body):
    """A result and what it says; `is_cut`: it says more than that."""

    result: ResultShown
    title: str
    segments: list[SegmentShown]
    findings: list[FindingShown]
    references: list[str]
    is_cut: bool


class AssessmentApi:
    """Answers with results and what they say, and keeps assessments."""

    def __init__(self, desk: AiDesk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/studies/{study}/ai-results", self.list,
            "Reports, segmentations, presentation states and key object selections of a study.",
            name="ListAiResults", service=_SERVICE, needs="read", gives=ResultList,
        )  # fmt: skip
        yield endpoint(
            "GET", "/ai/results/{instance}", self.show,
            "What a result says: segments, findings, measurements.",
            name="ShowAiResult", service=_SERVICE, needs="read", gives=ResultContentsShown,
            answers=(_GONE,),
        )  # fmt: skip
        yield endpoint(
            "POST", "/ai/results/{instance}/assessments", self.assess,
            "Accept, modify or reject a result; that becomes a report in its study.",
            name="AssessAiResult", service=_SERVICE, needs="write", takes=OpinionGiven,
            gives=AssessmentShown,
            answers=(
                ok("It is kept.", status=201),
                _GONE,
                Answer(409, "It cannot be so."),
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", "/ai/assessments", self.assessments, "Assessments, the latest first.",
            name="ListAssessments", service=_SERVICE, needs="read", gives=AssessmentList,
            parameters=(
                Parameter(name="study", text="Only of this study."),
                Parameter(name="result", text="Only of this result: its SOP Instance UID."),
                Parameter(name="assessor", text="Only of this person."),
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", "/ai/assessments/statistics", self.statistics,
            "How results were judged, by service; the last word on each counts.",
            name="CountAssessments", service=_SERVICE, needs="read", gives=VerdictCounts,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        study = request.arguments["study"]
        async with asking():
            found = await self._desk.results(study)
            withheld = await self._desk.withheld(study)
        return answer(
            ResultList(
                results=[_result(one) for one in found],
                withheld=[_withheld(one) for one in withheld],
            )
        )

    async def show(self, request: Request) -> Response:
        """The handler."""
        async with asking():
            result = await self._desk.result(request.arguments["instance"])
            contents = await self._desk.contents(result)
        request.told["instances"] = [result.stored]
        return answer(
            ResultContentsShown(
                result=_result(result),
                title=contents.title,
                segments=[_segment(one) for one in contents.segments],
                findings=[_finding(one) for one in contents.findings],
                references=list(contents.references),
                is_cut=contents.is_cut,
            )
        )

    async def assess(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, OpinionGiven)
        caller = caller_of(request)
        opinion = Opinion(
            verdict=Verdict(body.verdict),
            status=AssessmentStatus(body.status),
            institution=body.institution,
            comment=body.comment,
            reason=body.reason,
            modified=body.modified,
        )
        async with asking():
            made = await self._desk.assess(
                request.arguments["instance"], opinion, caller, caller_name(caller)
            )
        return answer(_assessment(made), 201)

    async def assessments(self, request: Request) -> Response:
        """The handler."""
        async with asking():
            found = await self._desk.assessments.find(
                study=request.parameter("study") or "",
                result=request.parameter("result") or "",
                assessor=request.parameter("assessor") or "",
                limit=_MOST,
            )
        return answer(AssessmentList(assessments=[_assessment(one) for one in found]))

    async def statistics(self, request: Request) -> Response:
        """The handler."""
        async with asking():
            found = await self._desk.assessments.statistics()
        counts = [
            VerdictCount(service=one.service, verdict=one.verdict.value, results=one.results)
            for one in found
        ]
        return answer(VerdictCounts(counts=counts))


def _result(one: StudyResult) -> ResultShown:
    record = one.record
    return ResultShown(
        sop_instance_uid=one.stored.sop_instance_uid,
        sop_class_uid=one.stored.sop_class_uid,
        series_instance_uid=one.stored.series_instance_uid,
        service="" if record is None else record.service,
        job_id="" if record is None else record.job_id,
        algorithm="" if record is None else record.algorithm,
        algorithm_version="" if record is None else record.algorithm_version,
        remark="" if record is None else record.why,
        at=None if record is None else moment(record.at),
        assessments=[_assessment(each) for each in one.assessments],
    )


def _withheld(one: ResultRecord) -> ResultWithheld:
    return ResultWithheld(
        sop_instance_uid=one.sop_instance_uid,
        sop_class_uid=one.sop_class_uid,
        service=one.service,
        state=one.state.value,
        why=one.why,
        at=moment(one.at),
    )


def _assessment(one: Assessment) -> AssessmentShown:
    opinion = one.opinion
    return AssessmentShown(
        sop_instance_uid=one.sop_instance_uid,
        study_instance_uid=one.study_instance_uid,
        result=one.result,
        service=one.service,
        assessor=one.assessor,
        verdict=opinion.verdict.value,
        status=opinion.status.value,
        institution=opinion.institution,
        comment=opinion.comment,
        reason=opinion.reason,
        modified=opinion.modified,
        predecessor=one.predecessor,
        at=moment(one.at),
    )


def _segment(one: Segment) -> SegmentShown:
    return SegmentShown(
        number=one.number,
        label=one.label,
        description=one.description,
        category=one.category,
        type=one.type,
        algorithm_type=one.algorithm_type,
        algorithm=one.algorithm,
        tracking_uid=one.tracking_uid,
        colour=one.colour,
    )


def _measured(one: Measured) -> MeasuredShown:
    return MeasuredShown(name=one.name, value=one.value, unit=one.unit, derivation=one.derivation)


def _finding(one: Finding) -> FindingShown:
    return FindingShown(
        type=one.type,
        site=one.site,
        tracking=one.tracking,
        tracking_uid=one.tracking_uid,
        certainty=None if one.certainty is None else _measured(one.certainty),
        measurements=[_measured(each) for each in one.measurements],
        graphic=one.graphic,
        points=list(one.points),
        instances=list(one.instances),
        segments=list(one.segments),
    )
