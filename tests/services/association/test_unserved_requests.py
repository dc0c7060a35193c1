"""Requests of the standard that no service of the archive performs (PS3.7 C.5): each is answered,
and the association goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from isocenter.engine.dimse.message_codec import (
    COMMAND_FIELDS,
    RESPONSE_BIT,
    CEchoRequest,
    NCreateRequest,
    NSetRequest,
    is_request,
)
from isocenter.engine.dimse.message_fields import MESSAGES, MessageRule, Presence
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import VERIFICATION
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, opened
from support.raw import RawPeer, raw_peer
from support.serving import port_of, serving

CONTEXTS = (
    VERIFICATION,
    CT,
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_MOVE,
    sop_classes.STUDY_ROOT_GET,
)
N_REQUESTS = [rule for rule in MESSAGES if rule.name.startswith("N-") and rule.name[-2:] == "RQ"]


def no_connection(peer: Peer, contexts: object) -> Any:
    raise AssertionError("nothing is moved here")


@asynccontextmanager
async def associated() -> AsyncIterator[RawPeer]:
    """A peer with a context for each service of an archive."""
    with trio.fail_after(60):
        async with (
            opened(MemoryStore()) as archive,
            serving(
                StorageScp(archive),
                FindScp(archive.index, ae_title="ISOCENTER"),
                GetScp(archive),
                MoveScp(archive, destination=lambda _: None, connect=no_connection),
            ) as server,
            raw_peer(port_of(server)) as peer,
        ):
            accept = await peer.associate(*CONTEXTS)
            assert [context.result for context in accept.presentation_contexts] == [0] * 5
            yield peer
            echo = CEchoRequest(message_id=99, affected_sop_class_uid=VERIFICATION)
            response, _ = await peer.exchange(1, echo)
            assert response.status == Status.SUCCESS  # type: ignore[union-attr]
            await peer.release()


def request_of(rule: MessageRule, sop_class: str) -> Any:
    values: dict[str, Any] = {"message_id": 7, "event_type_id": 1, "action_type_id": 1}
    values |= {name: "1.2.3" for name in rule.fields if name.endswith("instance_uid")}
    values |= {name: sop_class for name in rule.fields if name.endswith("class_uid")}
    return rule.message_class(
        **{name: values[name] for name, p in rule.fields.items() if p is Presence.MANDATORY}
    )


@pytest.mark.parametrize("rule", N_REQUESTS, ids=lambda rule: rule.name)
async def test_a_dimse_n_request_gets_0211(rule: MessageRule) -> None:
    async with associated() as peer:
        for number, sop_class in enumerate(CONTEXTS):
            request = request_of(rule, sop_class)
            assert is_request(request)
            data_set = None if rule.data_set_presence is Presence.NEVER else bytes(40_000)
            response, _ = await peer.exchange(2 * number + 1, request, data_set)
            assert type(response) is COMMAND_FIELDS[rule.command_field | RESPONSE_BIT]
            assert response.status == Status.UNRECOGNIZED_OPERATION  # type: ignore[union-attr]
            assert response.message_id_being_responded_to == 7  # type: ignore[union-attr]
            assert response.affected_sop_class_uid == sop_class  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "request_",
    [
        NSetRequest(message_id=7, requested_sop_class_uid="1.2", requested_sop_instance_uid="1.3"),
        NCreateRequest(message_id=7, affected_sop_class_uid="1.2"),
    ],
    ids=["requested", "affected"],
)
async def test_another_sop_class_than_the_context_has_gets_0122(
    request_: NSetRequest | NCreateRequest,
) -> None:
    async with associated() as peer:
        response, _ = await peer.exchange(3, request_, b"\0" * 12)
        assert response.status == Status.SOP_CLASS_NOT_SUPPORTED  # type: ignore[union-attr]
        assert response.affected_sop_class_uid == "1.2"  # type: ignore[union-attr]
