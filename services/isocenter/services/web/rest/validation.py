"""Marks of validation in the API: by study, rule, sender and device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.validation.ports import ValidationBook
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Parameter, Route
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import page_request
from isocenter.services.web.rest.policy_answers import changing, moment

_SERVICE: Final = "Validation"
_FILTERS: Final = (
    Parameter(name="sender", text="Only of this calling AE title."),
    Parameter(name="code", text="Only this rule, such as `CT-TYPE1-MISSING`."),
    Parameter(name="offset", text="How many to leave out before the first.", pattern="[0-9]{1,6}"),
)


class BrokenRuleShown(Body):
    """A rule, and how many objects of one sender and device break it; `example` is the SOP
    Instance UID of one of them."""

    sender: str
    device: str
    code: str
    severity: str
    objects: int
    last_at: str | None
    example: str


class BrokenRules(Body):
    """How many objects were validated, how many are not valid, and which rules were broken by what
    whom sent, most objects first; as they were counted at `counted_at`."""

    objects: int
    not_valid: int
    counted_at: str | None
    rules: list[BrokenRuleShown]


class RuleOfStudy(Body):
    """A rule, and how many objects of the study break it."""

    code: str
    objects: int


class ValidationOfStudy(Body):
    """How many objects of a study were validated when they came, and which rules they break."""

    objects: int
    not_valid: int
    rules: list[RuleOfStudy]


class RefusedShown(Body):
    """An object that was refused since it is not valid; `why`: codes and paths of what is wrong,
    never a value; `times`: how often it came."""

    sop_instance_uid: str
    sop_class_uid: str
    sender: str
    device: str
    why: str
    times: int
    first_at: str | None
    last_at: str | None


class RefusedObjects(Body):
    """Objects that were refused, the latest first."""

    refused: list[RefusedShown]


class ValidationApi:
    """Answers with marks of validation."""

    def __init__(self, book: ValidationBook) -> None:
        self._book = book

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/validation", self.rules,
            "Which rules of the standard are broken, by sender and device.",
            name="ListBrokenRules", service=_SERVICE, needs="state", gives=BrokenRules,
            parameters=_FILTERS,
        )  # fmt: skip
        yield endpoint(
            "GET", "/validation/refused", self.refused,
            "Which objects were refused since they are not valid, of whom, and why.",
            name="ListRefusedObjects", service=_SERVICE, needs="state", gives=RefusedObjects,
            parameters=(_FILTERS[0], _FILTERS[2]),
        )  # fmt: skip
        yield endpoint(
            "GET", "/validation/studies/{study}", self.of_study,
            "How the objects of a study fared when they came.",
            name="GetValidationOfStudy", service=_SERVICE, needs="search",
            gives=ValidationOfStudy,
        )  # fmt: skip

    async def refused(self, request: Request) -> Response:
        """The handler."""
        wanted = page_request(request)
        async with changing():
            found = await self._book.refusals(
                sender=request.parameter("sender") or "",
                limit=wanted.limit,
                offset=wanted.offset,
            )
        return answer(
            RefusedObjects(
                refused=[
                    RefusedShown(
                        sop_instance_uid=one.sop_instance_uid,
                        sop_class_uid=one.sop_class_uid,
                        sender=one.sender,
                        device=one.device,
                        why=one.why,
                        times=one.times,
                        first_at=moment(one.first_at),
                        last_at=moment(one.last_at),
                    )
                    for one in found
                ]
            )
        )

    async def rules(self, request: Request) -> Response:
        """The handler."""
        wanted = page_request(request)
        async with changing():
            totals = await self._book.totals()
            found = await self._book.rules_broken(
                sender=request.parameter("sender") or "",
                code=request.parameter("code") or "",
                limit=wanted.limit,
                offset=wanted.offset,
            )
        return answer(
            BrokenRules(
                objects=totals.objects,
                not_valid=totals.not_valid,
                counted_at=moment(totals.counted_at),
                rules=[
                    BrokenRuleShown(
                        sender=one.sender,
                        device=one.device,
                        code=one.code,
                        severity=one.severity,
                        objects=one.objects,
                        last_at=moment(one.last_at),
                        example=one.example,
                    )
                    for one in found
                ],
            )
        )

    async def of_study(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            found = await self._book.of_study(request.arguments["study"])
        return answer(
            ValidationOfStudy(
                objects=found.objects,
                not_valid=found.not_valid,
                rules=[RuleOfStudy(code=code, objects=count) for code, count in found.rules],
            )
        )
