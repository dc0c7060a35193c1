"""Reconciliation in the API: what other systems demanded of patients, and who is linked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Parameter, Route
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import Page, link_headers, page_of_some, page_request
from isocenter.services.web.rest.policy_answers import changing, moment
from isocenter.services.workflow.reconciliation.ports import ReconciliationBook
from isocenter.services.workflow.reconciliation.values import Attempt, PatientLink

_SERVICE: Final = "Reconciliation"
_MOST_LINKS: Final = 1_000
_PATIENT: Final = Parameter(name="patient_id", text="Those that name this Patient ID.")
_PAGING: Final = (
    Parameter(
        name="limit",
        text="How many at most, 1 to 100; 20 when it is not said.",
        pattern="[1-9][0-9]?|100",
    ),
    Parameter(
        name="after",
        text="Those behind an earlier page: `next` of its `pagination`.",
        pattern="[A-Za-z0-9_-]+",
    ),
)


class AttemptShown(Body):
    """What a system demanded, and what came of it; `corrections`: their numbers."""

    number: int
    at: str | None
    what: str
    patient_id: str
    issuer: str
    other_patient_id: str
    other_issuer: str
    outcome: str
    instances: int
    corrections: list[int]
    by: str
    message: str
    fault: str


class LinkShown(Body):
    """Two patients who are one person."""

    patient_id: str
    issuer: str
    other_patient_id: str
    other_issuer: str
    since: str | None
    by: str


class LinkList(Body):
    """Links, the latest first; `is_cut`: there are more."""

    links: list[LinkShown]
    is_cut: bool


class ReconciliationApi:
    """Answers with attempts and links."""

    def __init__(self, book: ReconciliationBook) -> None:
        self._book = book

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/reconciliation", self.list, "What other systems demanded, the latest first.",
            name="ListReconciliation", service=_SERVICE, needs="correct", gives=Page[AttemptShown],
            parameters=(_PATIENT, *_PAGING),
        )  # fmt: skip
        yield endpoint(
            "GET", "/patient-links", self.links, "Patients who are linked, the latest first.",
            name="ListPatientLinks", service=_SERVICE, needs="correct", gives=LinkList,
            parameters=(_PATIENT,),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted = page_request(request)
        before = wanted.after[0] if wanted.after else 0
        async with changing():
            rows = await self._book.attempts(
                patient_id=request.parameter("patient_id") or "",
                before=before if isinstance(before, int) else 0,
                limit=wanted.limit + wanted.offset + 1,
            )
        shown = [_shown(row) for row in rows[wanted.offset :]]
        page = page_of_some(shown, wanted, lambda row: (row.number,))
        return answer(page, headers=link_headers(request, page))

    async def links(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            rows = await self._book.links(
                patient_id=request.parameter("patient_id") or "", limit=_MOST_LINKS
            )
        return answer(LinkList(links=[_link(row) for row in rows], is_cut=len(rows) == _MOST_LINKS))


def _shown(row: Attempt) -> AttemptShown:
    return AttemptShown(
        number=row.number,
        at=moment(row.at),
        what=row.kind.value,
        patient_id=row.patient.patient_id,
        issuer=row.patient.issuer,
        other_patient_id=row.other.patient_id,
        other_issuer=row.other.issuer,
        outcome=row.outcome.value,
        instances=row.instances,
        corrections=list(row.corrections),
        by=row.actor,
        message=row.message,
        fault=row.fault,
    )


def _link(row: PatientLink) -> LinkShown:
    return LinkShown(
        patient_id=row.one.patient_id,
        issuer=row.one.issuer,
        other_patient_id=row.other.patient_id,
        other_issuer=row.other.issuer,
        since=moment(row.at),
        by=row.actor,
    )
