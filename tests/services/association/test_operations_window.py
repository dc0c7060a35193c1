"""Asynchronous operations (PS3.7 D.3.3.3): several at once on one association, both ways."""

from __future__ import annotations

from dataclasses import replace

import trio
import trio.testing

from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.dicom.objects import DicomObject, MemoryReader
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.client import ClientAssociation, open_association
from support.outcomes import outcome
from support.serving import port_of, serving

CT = "1.2.840.10008.5.1.4.1.1.2"


class Gate:
    """A storage service that answers when *wanted* operations are under way, last come first."""

    name = "gate"

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.waiting: list[trio.Event] = []
        self.most = 0

    def offer(self, abstract_syntax: str) -> Offer | None:
        return Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN,))

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        data = await operation.data_set()
        gate = trio.Event()
        self.waiting.append(gate)
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == self.wanted:
            for waiting in reversed(self.waiting):
                waiting.set()
            self.waiting.clear()
        await gate.wait()
        await operation.respond(
            CStoreResponse(
                message_id_being_responded_to=request.message_id,
                status=0,
                affected_sop_class_uid=request.affected_sop_class_uid,
                affected_sop_instance_uid=request.affected_sop_instance_uid,
                error_comment=f"{len(data)}",
            )
        )


def an_object(number: int) -> DicomObject:
    async def opened() -> MemoryReader:
        return MemoryReader(bytes(2 * number))

    return DicomObject(
        sop_class_uid=CT,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        open=opened,
    )


async def store_all(association: ClientAssociation, count: int) -> dict[int, str]:
    answers = {}

    async def store(number: int) -> None:
        response = await outcome(association.store(an_object(number)))
        answers[number] = response.error_comment

    async with trio.open_nursery() as nursery:
        for number in range(1, count + 1):
            nursery.start_soon(store, number)
    return answers


async def negotiated_window(service: Gate, ours: int, theirs: int, count: int) -> dict[int, str]:
    async with trio.open_nursery() as nursery:

        async def served(
            task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
        ) -> None:
            await serve(
                ServiceRegistry([service]),
                [ListenAddress(host="127.0.0.1", port=0)],
                operations_window=theirs,
                task_status=task_status,
            )

        server: Server = await nursery.start(served)
        peer = Peer("ANY-SCP", "127.0.0.1", server.addresses[0][1])
        contexts = [(CT, [EXPLICIT_VR_LITTLE_ENDIAN])]
        async with open_association(peer, contexts, operations_window=ours) as association:
            assert association.negotiated.operations_invoked == min(ours, theirs)
            answers = await store_all(association, count)
        nursery.cancel_scope.cancel()
    return answers


async def test_as_many_as_the_window_allows_are_under_way_at_once() -> None:
    service = Gate(4)
    with trio.fail_after(60):
        answers = await negotiated_window(service, ours=4, theirs=16, count=8)
    # Each answer found its own request, whatever their order.
    assert answers == {number: str(2 * number) for number in range(1, 9)}
    assert service.most == 4


async def test_without_negotiation_it_is_one_after_the_other() -> None:
    service = Gate(1)
    with trio.fail_after(60):
        answers = await negotiated_window(service, ours=1, theirs=16, count=3)
    assert len(answers) == 3
    assert service.most == 1


async def test_only_so_much_is_held_whole_on_one_association() -> None:
    service = Gate(3)
    limits = replace(DEFAULT_LIMITS, identifier=1_000)
    async with serving(service, operations_window=4, limits=limits) as server:
        peer = Peer("ANY-SCP", "127.0.0.1", port_of(server))
        contexts = [(CT, [EXPLICIT_VR_LITTLE_ENDIAN])]
        async with open_association(peer, contexts, operations_window=4) as association:
            statuses = []

            async def store(number: int) -> None:
                statuses.append((await outcome(association.store(an_object(number)))).status)

            with trio.fail_after(60):
                for _ in range(2):  # what has ended gives back what it held
                    async with trio.open_nursery() as nursery:
                        for number in (498, 499, 500):
                            nursery.start_soon(store, number)
                        while not statuses:
                            await trio.testing.wait_all_tasks_blocked(0.01)
                        for waiting in service.waiting:
                            waiting.set()
                        service.waiting.clear()
                    assert sorted(statuses) == [0, 0, 0xA700]
                    statuses.clear()
