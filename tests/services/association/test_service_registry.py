"""What a service raises becomes a response, and a line of the log."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import pytest
import trio

from isocenter.engine.dimse.message_codec import CEchoRequest, NGetRequest, response_to
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.negotiation import Offer, PresentationContext
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import ServiceRegistry, Statuses
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, STUDY_ROOT_FIND
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.normalized.operations import (
    AnswerError,
    AttributeScp,
    n_get,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from support.raw import raw_peer
from support.serving import Scripted, port_of, serving


class Failing:
    """Verification that raises what it is given."""

    name = "failing"
    statuses: Final[Statuses] = {0xA700: "here", Status.RESOURCE_LIMITATION: "here"}

    def __init__(self, error: Exception) -> None:
        self._error = error

    def offer(self, abstract_syntax: str) -> Offer | None:
        if abstract_syntax != VERIFICATION:
            return None
        return Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN,))

    async def perform(self, operation: Operation) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "comment", "logged"),
    [
        (
            OperationError(0xA700, "no room to keep it", log_detail="quota of /srv is used up"),
            0xA700,
            "no room to keep it",
            "no room to keep it (quota of /srv is used up)",
        ),
        (
            OperationError(0x0122),
            0x0122,
            "",
            "C-ECHO-RQ 7: SOP class 1.2.840.10008.1.1: 0122H SOP class not supported\n",
        ),
        (StorageError("/srv: read-only"), 0x0110, "processing failure", "/srv: read-only"),
        (
            StorageError("/srv: full", out_of_resources=True),
            Status.RESOURCE_LIMITATION,
            "resource limitation",
            "/srv: full",
        ),
        (ZeroDivisionError("of ours"), 0x0110, "internal error", "an operation failed"),
    ],
)
async def test_what_is_raised_is_answered_and_logged(
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    comment: str,
    logged: str,
) -> None:
    caplog.set_level(logging.WARNING, "isocenter")
    with trio.fail_after(60):
        async with serving(Failing(error)) as server, raw_peer(port_of(server)) as peer:
            await peer.associate(VERIFICATION)
            request = CEchoRequest(message_id=7, affected_sop_class_uid=VERIFICATION)
            response, _ = await peer.exchange(1, request)
            await peer.release()
    assert response.status == status  # type: ignore[union-attr]
    assert response.error_comment.lower() == comment  # type: ignore[union-attr]
    assert logged in caplog.text


def test_a_service_is_asked_once_for_each_abstract_syntax() -> None:
    class Counting(Failing):
        asked = 0

        def offer(self, abstract_syntax: str) -> Offer | None:
            self.asked += 1
            return super().offer(abstract_syntax)

    service = Counting(OperationError(0x0122))
    registry = ServiceRegistry([service])
    context = PresentationContext(1, VERIFICATION, EXPLICIT_VR_LITTLE_ENDIAN, False, True)
    request = CEchoRequest(message_id=7, affected_sop_class_uid=VERIFICATION)
    for _ in range(3):
        assert registry.respond_immediately(context, request) is None
    assert service.asked == 1
    for number in range(2_000):  # private SOP classes, one of each
        other = PresentationContext(1, f"2.25.{number}", EXPLICIT_VR_LITTLE_ENDIAN, False, True)
        registry.respond_immediately(other, request)
    assert len(registry._found) <= 512


@pytest.mark.parametrize("pending", [True, False])
async def test_a_service_that_forgets_its_last_response_is_a_fault_of_ours(
    pending: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def identifier(transfer_syntax: str) -> bytes:
        return build_identifier([("PatientID", "")], "STUDY", transfer_syntax)

    async def forgets(operation: Operation) -> None:
        encoded = await operation.data_set()
        if pending:
            await operation.respond_pending(
                response_to(operation.request, Status.PENDING), [encoded]
            )

    async with serving(Scripted([STUDY_ROOT_FIND], forgets)) as server:
        peer = Peer("ANY", "127.0.0.1", port_of(server))
        async with open_association(peer, [(STUDY_ROOT_FIND, BASIC_SYNTAXES)]) as association:
            matches = association.find(identifier)
            if pending:
                assert await matches.next_encoded() is not None
            with pytest.raises(OperationError) as raised:
                await matches.next_encoded()
    assert raised.value.status == Status.PROCESSING_FAILURE
    assert "the service scripted sent no final response" in caplog.text


class Answering(Failing):
    """A service for some SOP classes; what it is called says which."""

    def __init__(self, name: str, *sop_classes: str) -> None:
        super().__init__(OperationError(0x0122))
        self.name = name
        self._sop_classes = sop_classes

    def offer(self, abstract_syntax: str) -> Offer | None:
        if abstract_syntax not in self._sop_classes:
            return None
        return Offer(transfer_syntaxes=(self.name,))


def test_the_last_that_offers_a_sop_class_has_it() -> None:
    registry = ServiceRegistry([Answering("a", "1.1", "1.2"), Answering("b", "1.2", "1.3")])
    offers = [registry.offer(uid) for uid in ("1.1", "1.2", "1.3", "1.4")]
    assert [None if one is None else one.transfer_syntaxes for one in offers] == [
        ("a",),
        ("b",),
        ("b",),
        None,
    ]


def test_only_the_service_of_a_sop_class_is_asked_again_what_it_offers() -> None:
    class Counting(Answering):
        asked = 0

        def offer(self, abstract_syntax: str) -> Offer | None:
            self.asked += 1
            return super().offer(abstract_syntax)

    ours, other = Answering("a", "1.1"), Counting("b", "1.2")
    registry = ServiceRegistry([ours, other])
    for name in ("a", "c"):
        ours.name = name  # what it offers may change while it is served
        offer = registry.offer("1.1")
        assert offer is not None
        assert offer.transfer_syntaxes == (name,)
    assert other.asked == 1


async def test_a_server_without_services_does_not_start() -> None:
    with pytest.raises(LocalProtocolError, match="nothing is served"):
        await serve(ServiceRegistry([]), [])


STEPS, FILMS = "1.2.840.10008.3.1.2.3.4", "1.2.840.10008.5.1.1.16"


async def test_n_get_is_answered_on_the_listed_sop_classes_only() -> None:
    """Whoever performs nothing else is not offered for others."""

    async def attributes_of(uid: str) -> AttributeList:
        return AttributeList({})

    async def get(operation: Operation) -> None:
        assert isinstance(operation.request, NGetRequest)
        await operation.respond(response_to(operation.request, 0))

    services = [AttributeScp({STEPS: attributes_of}), Scripted([FILMS], get)]
    for listed, offered, status in (
        ((), [STEPS, FILMS], 0),
        ((FILMS,), [FILMS], 0),
        ((STEPS,), [STEPS, FILMS], Status.UNRECOGNIZED_OPERATION),
    ):
        registry = ServiceRegistry(services, n_get_sop_classes=listed)
        async with trio.open_nursery() as nursery:
            where = [ListenAddress(host="127.0.0.1", port=0)]
            server: Server = await nursery.start(partial(serve, registry, where))
            peer = Peer("TEST", "127.0.0.1", port_of(server))
            contexts = [(STEPS, BASIC_SYNTAXES), (FILMS, BASIC_SYNTAXES)]
            async with open_association(peer, contexts) as association:
                assert [one.abstract_syntax for one in association.contexts] == offered
                if status == 0:
                    assert (await n_get(association, FILMS, "1.2.3")).status == 0
                else:
                    with pytest.raises(AnswerError) as refused:
                        await n_get(association, FILMS, "1.2.3")
                    assert refused.value.status == status
            nursery.cancel_scope.cancel()
