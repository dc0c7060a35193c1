"""Identities of patients in the API: conflicts, and how they are settled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import Page, link_headers, page_of_some, page_request
from isocenter.services.web.rest.policy_answers import changing
from isocenter.services.web.rest.reasoned_changes import checked_reason
from isocenter.services.workflow.reconciliation.identities import PatientIdentities
from isocenter.services.workflow.reconciliation.values import (
    Contradiction,
    Identifier,
    IdentityConflict,
    ReconciliationError,
    ReconciliationKind,
    SeenPatient,
)

_SERVICE: Final = "Reconciliation"
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
_ANSWERS: Final = (
    ok("It is so; `is_new` is false if it was so before."),
    Answer(400, "The patients, or the reason, cannot be."),
)


class PatientSeen(Body):
    """A patient as objects of the archive name it; `studies`: how many do."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str
    studies: int


class PatientConflict(Body):
    """Two patients who may be one person; `is_contradicted`: they differ in sex."""

    one: PatientSeen
    other: PatientSeen
    is_contradicted: bool


class TwoPatients(Body):
    """Two patients, and why that is said of them; it stands in the audit trail."""

    patient_id: str
    other_patient_id: str
    reason: str
    issuer: str = ""
    other_issuer: str = ""


class LinkedPair(Body):
    """Two patients who are linked, and who said so; `since`: seconds since 1970."""

    patient_id: str
    issuer: str
    other_patient_id: str
    other_issuer: str
    by: str
    since: float


class PatientContradiction(Body):
    """Two patients who were told apart, and are linked by way of others; `links`: all of their
    group, of which queries follow none."""

    patient_id: str
    issuer: str
    other_patient_id: str
    other_issuer: str
    links: list[LinkedPair]


class PatientContradictions(Body):
    """Patients who were told apart, and are linked all the same."""

    contradictions: list[PatientContradiction]


class Settled(Body):
    """Whether anything was to be done."""

    is_new: bool


class PatientIdentityApi:
    """Answers with conflicts, links patients and tells them apart."""

    def __init__(self, identities: PatientIdentities) -> None:
        self._identities = identities

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/patient-conflicts", self.list,
            "Patients of one name and birth date with different IDs, of whom nobody has said "
            "whether they are one person.",
            name="ListPatientConflicts", service=_SERVICE, needs="correct",
            gives=Page[PatientConflict], parameters=_PAGING,
        )  # fmt: skip
        yield endpoint(
            "GET", "/patient-contradictions", self.contradictions,
            "Patients who were told apart, and are linked by way of others: one of the links is "
            "to be removed, and until then queries follow none of them.",
            name="ListPatientContradictions", service=_SERVICE, needs="correct",
            gives=PatientContradictions,
        )  # fmt: skip
        for path, kind, name, text in (
            ("/patient-links", ReconciliationKind.LINK, "LinkPatients",
             "Link two patients who are one person; both stay."),
            ("/patient-links/remove", ReconciliationKind.UNLINK, "UnlinkPatients",
             "Link two patients no more."),
            ("/patient-conflicts/dismiss", ReconciliationKind.TELL_APART, "TellPatientsApart",
             "Two patients look like one person, and are two: they are no conflict any more."),
        ):  # fmt: skip
            yield endpoint(
                "POST", path, partial(self._settle, kind), text, name=name, service=_SERVICE,
                needs="correct", takes=TwoPatients, gives=Settled, answers=_ANSWERS,
            )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted = page_request(request)
        after = [one if isinstance(one, str) else "" for one in wanted.after or ()]
        async with changing():
            rows = await self._identities.conflicts(
                after=after, limit=wanted.limit + wanted.offset + 1
            )
        some = page_of_some(rows[wanted.offset :], wanted, lambda row: row.place)
        page = Page(data=[_shown(row) for row in some.data], pagination=some.pagination)
        return answer(page, headers=link_headers(request, page))

    async def contradictions(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            found = await self._identities.contradictions()
        return answer(PatientContradictions(contradictions=[_contradiction(one) for one in found]))

    async def _settle(self, kind: ReconciliationKind, request: Request) -> Response:
        body = await read_body(request, TwoPatients)
        async with changing():
            try:
                is_new = await self._identities.settle(
                    kind,
                    Identifier(body.patient_id.strip(), body.issuer.strip()),
                    Identifier(body.other_patient_id.strip(), body.other_issuer.strip()),
                    actor=caller_name(caller_of(request)),
                    reason=checked_reason(body.reason),
                )
            except ReconciliationError as error:
                raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        return answer(Settled(is_new=is_new))


def _contradiction(found: Contradiction) -> PatientContradiction:
    return PatientContradiction(
        patient_id=found.one.patient_id,
        issuer=found.one.issuer,
        other_patient_id=found.other.patient_id,
        other_issuer=found.other.issuer,
        links=[
            LinkedPair(
                patient_id=link.one.patient_id,
                issuer=link.one.issuer,
                other_patient_id=link.other.patient_id,
                other_issuer=link.other.issuer,
                by=link.actor,
                since=link.at,
            )
            for link in found.links
        ],
    )


def _shown(row: IdentityConflict) -> PatientConflict:
    return PatientConflict(
        one=_seen(row.one), other=_seen(row.other), is_contradicted=row.is_contradicted
    )


def _seen(one: SeenPatient) -> PatientSeen:
    return PatientSeen(
        patient_id=one.identifier.patient_id,
        issuer=one.identifier.issuer,
        name=one.name,
        birth_date=one.birth_date,
        sex=one.sex,
        studies=one.studies,
    )
