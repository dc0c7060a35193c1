"""Retention in the API: rules, their dry runs, and studies that are held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.retention.holding import Holding, NotRecordedError
from isocenter.services.dicom.uids import UidRule
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route
from isocenter.services.web.parts import RetentionParts
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.web.rest.reasoned_changes import Reason, checked_reason, requester_of

_SERVICE: Final = "Retention"
_HOLD: Final = "/holds/{study}"
_MOST_STUDIES: Final = 200


class RetentionRuleShown(Body):
    """A rule; all that it says has to be so, and 0 and the empty list leave that open."""

    number: int
    name: str
    modalities: list[str]
    study_days: int
    arrived_days: int
    unused_days: int
    keep_newest: int
    disk_percent: int
    although_promised: bool
    routed_by: str
    forwarded_days: int


class RetentionRuleList(Body):
    """Rules of retention, in the order of the configuration; then those of rules for what comes
    (`routed_by`)."""

    rules: list[RetentionRuleShown]


class StudyPastItsTime(Body):
    """A study that a rule means; `kept_by`: why it stays all the same, nothing: it goes."""

    study_instance_uid: str
    instances: int
    bytes: int
    kept_by: list[str]


class DryRun(Body):
    """What a rule would delete now, in the order in which it goes; `is_cut`: there may be more."""

    studies: int
    instances: int
    bytes: int
    is_cut: bool
    details: list[StudyPastItsTime]


class HoldShown(Body):
    """A study that nobody deletes; `is_here`: the archive has something of it."""

    study_instance_uid: str
    since: str | None
    by: str
    reason: str
    is_here: bool


class HoldList(Body):
    """Studies that are held, the oldest hold first."""

    holds: list[HoldShown]


class RetentionApi:
    """Answers with rules and holds; holds and releases."""

    def __init__(self, retention: RetentionParts, holding: Holding) -> None:
        self._retention = retention
        self._holding = holding

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/retention/rules", self.rules, "Rules of retention.",
            name="ListRetentionRules", service=_SERVICE, needs="delete", gives=RetentionRuleList,
        )  # fmt: skip
        yield endpoint(
            "GET", "/retention/rules/{number}/dry-run", self.dry_run,
            "What a rule would delete now; nothing is changed.",
            name="DryRunRetentionRule", service=_SERVICE, needs="delete", gives=DryRun,
        )  # fmt: skip
        yield endpoint(
            "GET", "/holds", self.holds, "Studies that are held.",
            name="ListHolds", service=_SERVICE, needs="delete", gives=HoldList,
        )  # fmt: skip
        yield endpoint(
            "PUT", _HOLD, self.hold, "Hold a study: nobody and no rule deletes anything of it.",
            name="HoldStudy", service=_SERVICE, needs="delete", takes=Reason,
            answers=(Answer(409, "It is held already."),),
        )  # fmt: skip
        yield endpoint(
            "DELETE", _HOLD, self.release, "Hold a study no more.",
            name="ReleaseStudy", service=_SERVICE, needs="delete",
        )  # fmt: skip

    async def rules(self, request: Request) -> Response:
        """The handler."""
        return answer(
            RetentionRuleList(
                rules=[
                    RetentionRuleShown(
                        number=number,
                        name=rule.name,
                        modalities=list(rule.modalities),
                        study_days=rule.study_days,
                        arrived_days=rule.arrived_days,
                        unused_days=rule.unused_days,
                        routed_by=rule.routed_by,
                        forwarded_days=rule.forwarded_days,
                        keep_newest=rule.keep_newest,
                        disk_percent=rule.disk_percent,
                        although_promised=rule.although_promised,
                    )
                    for number, rule in enumerate(self._retention.rules(), 1)
                ]
            )
        )

    async def dry_run(self, request: Request) -> Response:
        """The handler."""
        rules = self._retention.rules()
        text = request.arguments["number"]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
        if not 1 <= number <= len(rules):
            raise not_found("rule of retention")
        async with changing():
            found = await self._retention.look(rules[number - 1], _MOST_STUDIES)
        details = [(each, list[str]()) for each in found.going]
        details += found.kept
        return answer(
            DryRun(
                studies=len(found.going),
                instances=found.instances,
                bytes=found.size,
                is_cut=found.is_cut,
                details=[
                    StudyPastItsTime(
                        study_instance_uid=each.study_instance_uid,
                        instances=each.instances,
                        bytes=each.size,
                        kept_by=kept_by,
                    )
                    for each, kept_by in details
                ],
            )
        )

    async def holds(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            rows = await self._holding.all()
        return answer(
            HoldList(
                holds=[
                    HoldShown(
                        study_instance_uid=row.study_instance_uid,
                        since=moment(row.at),
                        by=row.actor,
                        reason=row.reason,
                        is_here=row.is_here,
                    )
                    for row in rows
                ]
            )
        )

    async def hold(self, request: Request) -> Response:
        """The handler."""
        reason = checked_reason((await read_body(request, Reason)).reason)
        if not UidRule.SAFE.allows(request.arguments["study"]):
            raise HttpError(400, "INVALID_REQUEST", "that is no Study Instance UID")
        async with changing():
            try:
                is_new = await self._holding.hold(
                    request.arguments["study"], requester_of(request), reason
                )
            except NotRecordedError as error:
                raise _not_recorded(error) from error
        if not is_new:
            raise HttpError(409, "CONFLICT", "it is held already")
        return Response(status=204)

    async def release(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            try:
                was_held = await self._holding.release(
                    request.arguments["study"], requester_of(request)
                )
            except NotRecordedError as error:
                raise _not_recorded(error) from error
        if not was_held:
            raise not_found("hold")
        return Response(status=204)


def _not_recorded(error: NotRecordedError) -> HttpError:
    return HttpError(503, "UNAVAILABLE", str(error), [("retry-after", "60")])
