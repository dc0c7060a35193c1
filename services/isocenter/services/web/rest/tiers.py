"""Storage tiers in the API: what each has, moving and pinning studies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.tiers.administration import TierAdministration
from isocenter.services.archive.tiers.tier import Tier
from isocenter.services.dicom.uids import UidRule
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.web.rest.reasoned_changes import checked_reason, requester_of

_SERVICE: Final = "Tiers"
_PIN: Final = "/tiers/pins/{study}"
_MOST_STUDIES: Final = 1_000


class TierShown(Body):
    """A tier; `availability`: Instance Availability (0008,0056) of what is in it."""

    tier: str
    availability: str
    instances: int
    bytes: int


class TierPinShown(Body):
    """A study that rules leave in a tier."""

    study_instance_uid: str
    tier: str
    since: str | None
    by: str
    reason: str


class TierFaultShown(Body):
    """An object that could not be moved, and is where it was."""

    sop_instance_uid: str
    study_instance_uid: str
    since: str | None
    fault: str


class TierList(Body):
    """What is where; `waiting`: studies that are to be moved.  Of long lists the first."""

    tiers: list[TierShown]
    waiting: int
    pins: list[TierPinShown]
    faults: list[TierFaultShown]


class TierOrderTaken(Body):
    """Studies to be moved to a tier (hot, warm, cold)."""

    study_instance_uids: list[str]
    tier: str


class TierPinTaken(Body):
    """Where a study stays, and why; the reason stands in the audit trail."""

    tier: str
    reason: str


class TierApi:
    """Answers with tiers; has studies moved, and pins them."""

    def __init__(self, tiers: TierAdministration) -> None:
        self._tiers = tiers

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/tiers", self.status, "What each storage tier has, and what is to move.",
            name="ListTiers", service=_SERVICE, needs="state", gives=TierList,
        )  # fmt: skip
        yield endpoint(
            "POST", "/tiers/moves", self.move,
            "Have studies moved to a tier; the server does it in the background.",
            name="MoveStudiesToTier", service=_SERVICE, needs="configure", takes=TierOrderTaken,
        )  # fmt: skip
        yield endpoint(
            "PUT", _PIN, self.pin, "Keep a study in a tier, whatever rules say.",
            name="PinStudyToTier", service=_SERVICE, needs="configure", takes=TierPinTaken,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _PIN, self.unpin, "Let rules move a study again.",
            name="UnpinStudy", service=_SERVICE, needs="configure",
        )  # fmt: skip

    async def status(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            status = await self._tiers.status()
        usage = {each.tier: each for each in status.usage}
        return answer(
            TierList(
                tiers=[
                    TierShown(
                        tier=tier.value,
                        availability=place.availability.value,
                        instances=usage[tier].instances if tier in usage else 0,
                        bytes=usage[tier].size if tier in usage else 0,
                    )
                    for tier, place in self._tiers.places.items()
                ],
                waiting=len(status.orders),
                pins=[
                    TierPinShown(
                        study_instance_uid=each.study_instance_uid,
                        tier=each.tier.value,
                        since=moment(each.at),
                        by=each.actor,
                        reason=each.reason,
                    )
                    for each in status.pins
                ],
                faults=[
                    TierFaultShown(
                        sop_instance_uid=each.sop_instance_uid,
                        study_instance_uid=each.study_instance_uid,
                        since=moment(each.at),
                        fault=each.fault,
                    )
                    for each in status.faults
                ],
            )
        )

    async def move(self, request: Request) -> Response:
        """The handler."""
        wanted = await read_body(request, TierOrderTaken)
        tier = self._tier(wanted.tier)
        studies = wanted.study_instance_uids
        if not 0 < len(studies) <= _MOST_STUDIES:
            raise HttpError(400, "INVALID_REQUEST", f"name 1 to {_MOST_STUDIES} studies")
        for study in studies:
            _check_study(study)
        async with changing():
            await self._tiers.order(studies, tier, requester_of(request))
        return Response(status=204)

    async def pin(self, request: Request) -> Response:
        """The handler."""
        wanted = await read_body(request, TierPinTaken)
        tier, reason = self._tier(wanted.tier), checked_reason(wanted.reason)
        study = _check_study(request.arguments["study"])
        async with changing():
            await self._tiers.pin(study, tier, requester_of(request), reason)
        return Response(status=204)

    async def unpin(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            was_pinned = await self._tiers.unpin(request.arguments["study"], requester_of(request))
        if not was_pinned:
            raise not_found("pin")
        return Response(status=204)

    def _tier(self, text: str) -> Tier:
        names = [tier.value for tier in self._tiers.places]
        if text not in names:
            raise HttpError(400, "INVALID_REQUEST", f"tier is one of {', '.join(names)}")
        return Tier(text)


def _check_study(uid: str) -> str:
    if not UidRule.SAFE.allows(uid):
        raise HttpError(400, "INVALID_REQUEST", "that is no Study Instance UID")
    return uid
