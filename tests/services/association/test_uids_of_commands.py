"""The SOP Instance UIDs of commands are looked at before a user's function sees them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from isocenter.engine.dimse.message_codec import (
    CStoreRequest,
    NCreateRequest,
    NGetRequest,
    Request,
    response_to,
    sop_instance_of,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uids import names_an_instance
from isocenter.services.service_classes.client import open_association
from services.archive_support import CT
from support.raw import raw_peer
from support.serving import Scripted, port_of, serving

EVIL = ("../../evil", "/etc/passwd", "1.2\\3", "..", "1.2.3*", "a" * 65)
FINE = ("1.2.3", "1.02.3", "not-a-uid")
DATA = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"


def store_of(uid: str) -> CStoreRequest:
    return CStoreRequest(
        message_id=7, affected_sop_class_uid=CT, affected_sop_instance_uid=uid, priority=0
    )


class Seeing(Scripted):
    """Keeps the SOP Instance UIDs that it saw."""

    statuses: Mapping[int, str] = {Status.SUCCESS: "taken"}

    def __init__(self) -> None:
        super().__init__([CT], self._take)
        self.seen: list[str] = []

    async def _take(self, operation: Operation) -> None:
        self.seen.append(sop_instance_of(operation.request))
        async for _ in operation.fragments():
            pass
        await operation.respond(response_to(operation.request, Status.SUCCESS))


class Raw(Seeing):
    takes_raw_uids = True


@pytest.mark.parametrize("uid", EVIL)
@pytest.mark.parametrize("make", [Seeing, Raw])
async def test_a_service_sees_what_can_be_a_name_unless_it_asks_for_more(
    uid: str, make: type[Seeing]
) -> None:
    service = make()
    with trio.fail_after(60):
        async with serving(service) as server, raw_peer(port_of(server)) as peer:
            await peer.associate(CT)
            for each in (uid, *FINE):
                response, _ = await peer.exchange(1, store_of(each), DATA)
                refused = each == uid and make is Seeing
                status = response.status  # type: ignore[union-attr]
                assert status == (Status.INVALID_SOP_INSTANCE if refused else Status.SUCCESS)
            await peer.release()
    assert service.seen == [*([] if make is Seeing else [uid]), *FINE]


@pytest.mark.parametrize("raw", [False, True])
async def test_a_receiver_of_a_c_get_sees_what_can_be_a_name_unless_it_asks_for_more(
    raw: bool,
) -> None:
    seen: list[str] = []
    statuses: list[int] = []

    async def receive(operation: Operation, request: CStoreRequest) -> int:
        seen.append(request.affected_sop_instance_uid)
        async for _ in operation.fragments():
            pass
        return Status.SUCCESS

    async def perform(operation: Operation) -> None:
        await operation.data_set()
        for uid in (*EVIL, *FINE):
            response = await operation.association.invoke(3, store_of(uid), DATA)
            statuses.append(response.message.status)
        await operation.respond(response_to(operation.request, Status.SUCCESS))

    service = Scripted([CT, sop_classes.STUDY_ROOT_GET], perform)
    syntaxes = [EXPLICIT_VR_LITTLE_ENDIAN]
    contexts = [(sop_classes.STUDY_ROOT_GET, syntaxes), (CT, syntaxes)]
    with trio.fail_after(60):
        async with (
            serving(service) as server,
            open_association(
                Peer("ISOCENTER", "127.0.0.1", port_of(server)), contexts, scp_roles=[CT]
            ) as association,
        ):
            await association.get(DATA, receive, takes_raw_uids=raw)
    assert seen == ([*EVIL, *FINE] if raw else [*FINE])
    refused = Status.SUCCESS if raw else Status.INVALID_SOP_INSTANCE
    assert statuses == [*[refused] * len(EVIL), *[Status.SUCCESS] * len(FINE)]


@pytest.mark.parametrize(
    ("request_", "fine"),
    [
        (NCreateRequest(message_id=1, affected_sop_class_uid=CT), True),
        (
            NCreateRequest(
                message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="../1"
            ),
            False,
        ),
        (
            NGetRequest(message_id=1, requested_sop_class_uid=CT, requested_sop_instance_uid="1.2"),
            True,
        ),
        (
            NGetRequest(message_id=1, requested_sop_class_uid=CT, requested_sop_instance_uid="a/b"),
            False,
        ),
    ],
)
def test_commands_that_need_no_instance_may_have_none(request_: Request, fine: bool) -> None:
    assert names_an_instance(request_) is fine
