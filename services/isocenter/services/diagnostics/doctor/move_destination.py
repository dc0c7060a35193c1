"""C-MOVE check: the peer's way to the move destination.

We are the destination for as long as it takes, ask for one object, and see who comes.
"""

from __future__ import annotations

from dataclasses import field
from functools import partial
from ssl import SSLContext
from typing import ClassVar, Final

import trio

from isocenter.engine.dimse.message_codec import CStoreRequest, response_to
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import ServerOptions, serve_on
from isocenter.services.association.service_registry import ServiceRegistry, Statuses
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell, count
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget
from isocenter.services.diagnostics.doctor.negotiation import associate
from isocenter.services.diagnostics.doctor.query_store import find, of_fault, status_text
from isocenter.services.diagnostics.findings import Finding, Side, error
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import NoPresentationContextError, OperationError, text_of
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.notices import (
    AssociationEstablished,
    AssociationRejected,
    ConnectionRefused,
    Notice,
    Notices,
)
from isocenter.services.service_classes.client import (
    ClientAssociation,
    RetrieveError,
    RetrieveResult,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.verification import VerificationScp

_WHAT: Final = "C-MOVE"
#: From study to instance.
_KEYS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_LEVELS: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the peer is to send to: us.

    Attributes:
        study_uid: what to ask for; empty: one object that C-FIND finds.
        tls: what the listener shakes hands with; None: in the clear.
    """

    ae_title: str
    host: str
    port: int
    study_uid: str = ""
    tls: SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.ae_title} on port {self.port}" + (" over TLS" if self.tls else "")


@dataclass(slots=True)
class _Visits:
    """Who came to our listener.  As a service: takes every object and keeps none."""

    name = "way back"
    statuses: ClassVar[Statuses] = {Status.SUCCESS: "always"}
    notices: list[Notice] = field(default_factory=list)
    objects: int = 0

    def offer(self, abstract_syntax: str) -> Offer | None:
        if abstract_syntax in sop_classes.STORAGE_SOP_CLASSES:
            return Offer(transfer_syntaxes=tuple(sop_classes.TRANSFER_SYNTAXES))
        return None

    async def perform(self, operation: Operation) -> None:
        if not isinstance(operation.request, CStoreRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        async for _ in operation.fragments():
            pass
        self.objects += 1
        await operation.respond(response_to(operation.request, Status.SUCCESS))

    def refusals(self) -> list[ConnectionRefused | AssociationRejected]:
        """Those who came and could not get in."""
        return [
            one for one in self.notices if isinstance(one, ConnectionRefused | AssociationRejected)
        ]

    def arrived(self) -> bool:
        """Whether an association was opened with us."""
        return any(isinstance(one, AssociationEstablished) for one in self.notices)


async def check_move_destination(way: PeerTarget, destination: Destination, tell: Tell) -> None:
    """Ask the peer to send one object to us."""
    tls = destination.tls
    bind = ListenAddress(
        host=destination.host, port=destination.port, tls=None if tls is None else lambda: tls
    )
    try:
        listeners = [(sock, bind) for sock in open_listener(bind)]
    except OSError as fault:
        finding = error(
            text_of(fault),
            cure="stop who listens there for the time of the examination, or give another port "
            "with --move-port that the peer knows",
            side=Side.HERE,
        )
        tell(CheckResult(_WHAT, f"cannot be {destination}", (finding,)))
        return
    visits = _Visits()
    notices = Notices()
    notices.subscribe(visits.notices.append)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    serve_on,
                    ServiceRegistry([VerificationScp(), visits]),
                    listeners,
                    ServerOptions(
                        access=AeTitleRules(
                            ae_titles=frozenset({destination.ae_title}),
                            certificate_owns_ae_title=False,
                        ),
                        notices=notices,
                    ),
                )
            )
            examined = await _move(way, destination, visits)
            nursery.cancel_scope.cancel()
    finally:
        for sock, _ in listeners:
            sock.close()
    tell(examined)


async def _move(way: PeerTarget, destination: Destination, visits: _Visits) -> CheckResult:
    contexts = [
        (uid, BASIC_SYNTAXES) for uid in (sop_classes.STUDY_ROOT_FIND, sop_classes.STUDY_ROOT_MOVE)
    ]
    try:
        async with associate(way, contexts) as association:
            keys = (
                {"StudyInstanceUID": destination.study_uid}
                if destination.study_uid
                else await _one_object(association)
            )
            if not keys:
                finding = error(
                    "the peer has no study that C-FIND finds",
                    cure="send it one (--store), or name one with --study-uid",
                    meaning="there is nothing that it could send",
                    side=Side.PEER,
                )
                return CheckResult(_WHAT, "nothing to ask for", (finding,))
            pairs, level = tuple(keys.items()), _LEVELS[len(keys) - 1]
            try:
                result = await association.move(
                    lambda syntax: build_identifier(pairs, level, syntax), destination.ae_title
                )
            except RetrieveError as fault:
                result = fault.result
    except NoPresentationContextError as fault:
        return CheckResult(_WHAT, "not served", (of_fault(_WHAT, fault),))
    except IsocenterError as fault:
        findings = (of_fault(_WHAT, fault), *_findings_of_visits(destination, visits))
        return CheckResult(_WHAT, "no answer", findings)
    return _assess(destination, result, visits)


async def _one_object(association: ClientAssociation) -> dict[str, str]:
    """The keys of one instance, as far down as the peer answers; empty: it has none."""
    known: dict[str, str] = {}
    for keyword, level in zip(_KEYS, _LEVELS, strict=True):
        async with find(association, level, {**known, keyword: ""}) as matches:
            async for match in matches:
                if uid := str(match.get(keyword, "")):
                    known[keyword] = uid
                    break
        if keyword not in known:
            break
    return known


def _assess(destination: Destination, result: RetrieveResult, visits: _Visits) -> CheckResult:
    seen = (
        f"{status_text(result.status)}, {result.completed} completed, {result.failed} failed; "
        f"{count(visits.objects, 'object')} came to {destination}"
    )
    facts = {"status": f"{result.status:04X}", "objects": visits.objects}
    findings: list[Finding] = []
    if result.status == Status.MOVE_DESTINATION_UNKNOWN:
        findings.append(
            error(
                f"the peer does not know the destination {destination.ae_title}",
                "PS3.4 C.4.2.1.5",
                f"enter {destination.ae_title} there, with the address of this machine as the peer "
                f"reaches it and port {destination.port} (isocenter serve --peer "
                f"{destination.ae_title}@HOST:{destination.port})",
                meaning="it looks the destination's address up by its AE title, and has none",
                side=Side.PEER,
            )
        )
    elif visits.objects == 0 or result.failed:
        findings += _findings_of_visits(destination, visits)
    return CheckResult(_WHAT, seen, tuple(findings), facts=facts)


def _findings_of_visits(destination: Destination, visits: _Visits) -> list[Finding]:
    """Why nothing arrived, from what our own listener saw."""
    if visits.objects:
        return [
            error(
                "some objects came, and some did not",
                "PS3.4 C.4.2.1.5",
                "see the log of the peer for those that failed",
                side=Side.PEER,
            )
        ]
    if visits.arrived():
        return [
            error(
                "the peer opened an association with us, and sent nothing on it",
                "PS3.4 C.4.2.2.1",
                "see its log: does it have the objects, and in a transfer syntax that it proposed?",
                side=Side.PEER,
            )
        ]
    for refusal in visits.refusals():
        match refusal:
            case AssociationRejected():
                return [
                    error(
                        f"the peer came as {refusal.caller.calling_ae_title} and called "
                        f"{refusal.caller.called_ae_title}: {refusal.why}",
                        "PS3.8 9.3.4",
                        f"at the peer, the AE title of the destination has to be "
                        f"{destination.ae_title}",
                        side=Side.PEER,
                    )
                ]
            case ConnectionRefused():
                return [
                    error(
                        f"the peer reached us, and no association came of it: {refusal.detail}",
                        cure="let both sides speak TLS, or both in the clear (--move-tls)",
                        side=Side.EITHER,
                    )
                ]
    return [
        error(
            f"nobody came to port {destination.port}",
            "PS3.4 C.4.2.2.1",
            f"at the peer, compare address and port of {destination.ae_title} with this machine's; "
            f"then let the firewalls between the two, and of this machine, admit connections "
            f"from the peer to port {destination.port}",
            meaning="the peer knows the destination, and cannot connect to where it believes us",
            side=Side.EITHER,
        )
    ]
