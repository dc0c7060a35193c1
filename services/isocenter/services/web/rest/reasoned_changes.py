"""Changes with a reason, of a study, by the caller of a request."""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Plan, Requester
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body
from isocenter.services.web.rest.policy_answers import not_found

_MOST_REASON: Final = 200


class Reason(Body):
    """Why; it stands in the audit trail."""

    reason: str


def checked_reason(text: str) -> str:
    """A reason as it is kept.

    Raises:
        HttpError: it is none (400).
    """
    reason = text.strip()
    if reason and reason.isprintable() and len(reason) <= _MOST_REASON:
        return reason
    raise HttpError(
        400, "INVALID_REQUEST", f"reason is one line of at most {_MOST_REASON} characters"
    )


async def plan_of_study(trash: Trash, study_instance_uid: str) -> Plan:
    """What the archive has of a study.

    Raises:
        HttpError: nothing (404).
    """
    criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study_instance_uid))
    plan = await trash.plan(Query(level=Level.STUDY, criteria=(criterion,)))
    if not study_instance_uid or not plan.instances:
        raise not_found("study")
    return plan


def requester_of(request: Request) -> Requester:
    """Who asks, for the audit trail; what the caller may, the route has said."""
    return Requester(name=caller_name(caller_of(request)))
