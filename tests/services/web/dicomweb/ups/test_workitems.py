"""UPS-RS: the rules and states are those of DIMSE, the statuses those of PS3.18 11."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import trio
import trio_websocket
from pydicom.dataset import Dataset

from isocenter.services.association.peer import Peer
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.client_errors import HttpClientError, HttpStatusError
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.notices import WorkitemChanged
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.ups import scu
from isocenter.services.service_classes.ups.events import EventType
from isocenter.services.service_classes.ups.workitem import (
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    WorkitemState,
)
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.principal import NEEDS, Principal
from services.service_classes.ups.samples import (
    LOCK,
    UID,
    cancelled,
    performed,
    progress,
    scheduled,
)
from services.web.asking import Answered, WebSide, web_side

#: trio-websocket leaves its socket to the garbage collector when the server closes first.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ALL = "/dicomweb/workitems"
ONE = f"{ALL}/{UID}"
JSON = "application/dicom+json"
OTHER = f"{LOCK}.1"


def model(dataset: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = dataset.to_json_dict()
    return found


def state(state: str, lock: str = "") -> dict[str, Any]:
    dataset = Dataset()
    dataset.ProcedureStepState = state
    if lock:
        dataset.TransactionUID = lock
    return model(dataset)


async def create(ask: WebSide, uid: str = UID, **attributes: Any) -> Answered:
    return await ask("POST", f"{ALL}?{uid}", model(scheduled(**attributes)))


async def begin(ask: WebSide, uid: str = UID) -> Answered:
    return await ask("PUT", f"{ALL}/{uid}/state", state("IN PROGRESS", LOCK))


async def test_a_whole_life() -> None:
    async with web_side() as ask:
        assert (await ask("GET", ONE)).status == 404
        created = await create(ask)
        assert (created.status, created.body) == (201, b"")
        assert created.headers["location"] == f"http://localhost:8080{ONE}"
        assert (await create(ask)).status == 409
        assert (await begin(ask)).status == 200
        assert (await ask("PUT", f"{ONE}/state", state("IN PROGRESS", OTHER))).status == 409
        assert (await ask("POST", ONE, model(progress("5")))).status == 409
        for query in (f"?{LOCK}", f"?transaction-uid={LOCK}", f"?transactionUID={LOCK}"):
            assert (await ask("POST", ONE + query, model(progress("5")))).status == 200
        incomplete = await ask("PUT", f"{ONE}/state", state("COMPLETED", LOCK))
        assert (incomplete.status, incomplete.json["error"]["code"]) == (409, "INCOMPLETE")
        assert (await ask("POST", f"{ONE}?{LOCK}", model(performed()))).status == 200
        assert (await ask("PUT", f"{ONE}/state?{LOCK}", state("COMPLETED"))).status == 200
        again = await ask("PUT", f"{ONE}/state", state("COMPLETED", LOCK))
        assert again.status == 200
        assert "already in the requested state of COMPLETED" in again.headers["warning"]
        got = await ask("GET", ONE)
        assert (got.status, got.headers["content-type"]) == (200, JSON)
        assert got.json["00741000"]["Value"] == ["COMPLETED"]
        assert LOCK.encode() not in got.body
        told = [one for one in ask.notices if isinstance(one, WorkitemChanged)]
        assert [(one.what, one.state) for one in told] == [
            ("created", "SCHEDULED"), ("state changed", "IN PROGRESS"),
            *[("changed", "IN PROGRESS")] * 4, *[("state changed", "COMPLETED")] * 2,
        ]  # fmt: skip
        assert told[0].is_new
        assert told[0].caller.address == "127.0.0.1"


#: What a request is answered: method, path, body → status.
ANSWERS = [
    ("POST", ALL, state("SCHEDULED"), 400),
    ("POST", f"{ALL}?workitem=no+UID", model(scheduled()), 400),
    ("POST", f"{ALL}?{UID}.9", model(scheduled(ProcedureStepState="COMPLETED")), 400),
    ("POST", ALL, [], 400),
    ("POST", ALL, model(scheduled()), 201),
    ("POST", f"{ALL}/1.2.3", model(progress("5")), 404),
    ("POST", f"{ALL}/../1", model(progress("5")), 404),
    ("POST", ONE, state("COMPLETED"), 400),
    ("POST", f"{ONE}?{LOCK}", model(progress("5")), 409),
    ("PUT", f"{ALL}/1.2.3/state", state("IN PROGRESS", LOCK), 404),
    ("PUT", f"{ONE}/state", state("COMPLETED", LOCK), 409),
    ("PUT", f"{ONE}/state", state("SCHEDULED", LOCK), 409),
    ("PUT", f"{ONE}/state", state("DONE", LOCK), 400),
    ("PUT", f"{ONE}/state", {}, 400),
    ("POST", f"{ALL}/1.2.3/cancelrequest", b"", 404),
    ("GET", f"{ALL}/1.2.3", b"", 404),
    ("GET", f"{ALL}?ScheduledProcedureStepStartDateTime=2026-20", b"", 400),
    ("GET", f"{ALL}?PatientID=NOBODY", b"", 200),
    ("POST", f"{ALL}/1.2.3/subscribers/PAGE", b"", 404),
    ("POST", f"{ONE}/subscribers/A%5CB", b"", 400),
    ("POST", f"{ONE}/subscribers/PAGE?deletionlock=maybe", b"", 400),
    ("POST", f"{ONE}/subscribers/PAGE/suspend", b"", 400),
    ("POST", f"{ALL}/{FILTERED_SUBSCRIPTION}/subscribers/PAGE", b"", 400),
    ("POST", f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/PAGE/suspend", b"", 200),
    ("DELETE", f"{ALL}/1.2.3/subscribers/PAGE", b"", 404),
    ("DELETE", f"{ONE}/subscribers/PAGE", b"", 200),
]


async def test_each_answer() -> None:
    async with web_side() as ask:
        assert (await create(ask)).status == 201
        for method, path, body, status in ANSWERS:
            assert (await ask(method, path, body)).status == status, (method, path, body)
        wrong = await ask("POST", ALL, b"x", content_type="text/plain")
        assert wrong.status == 415
        assert (await ask("GET", ONE, accept="image/png")).status == 406


async def test_creation_with_modifications_says_so() -> None:
    async with web_side() as ask:
        created = await create(ask, WorklistLabel="")
        assert created.status == 201
        assert "created with modifications" in created.headers["warning"]


async def test_cancelling() -> None:
    async with web_side() as ask:
        await create(ask)
        reason = Dataset()
        reason.ReasonForCancellation = "double"
        asked = await ask("POST", f"{ONE}/cancelrequest", model(reason))
        assert asked.status == 202
        got = (await ask("GET", ONE)).json
        assert got["00741000"]["Value"] == ["CANCELED"]
        assert got["00741002"]["Value"][0]["00741238"]["Value"] == ["double"]
        again = await ask("POST", f"{ONE}/cancelrequest")
        assert again.status == 202
        assert "already in the requested state of CANCELED" in again.headers["warning"]
        await create(ask, f"{UID}.2")
        await begin(ask, f"{UID}.2")
        nobody = await ask("POST", f"{ALL}/{UID}.2/cancelrequest")
        assert (nobody.status, nobody.json["error"]["code"]) == (409, "NO_PERFORMER")
        changes = cancelled()
        assert (await ask("POST", f"{ALL}/{UID}.2?{LOCK}", model(changes))).status == 200
        done = await ask("PUT", f"{ALL}/{UID}.2/state", state("CANCELED", LOCK))
        assert done.status == 200


async def test_searches() -> None:
    async with web_side() as ask:
        for number, priority in ((1, "HIGH"), (2, "LOW"), (3, "LOW")):
            start = f"2026050{number}120000"
            await create(
                ask, f"{UID}.{number}", ScheduledProcedureStepPriority=priority,
                ScheduledProcedureStepStartDateTime=start,
            )  # fmt: skip
        await begin(ask, f"{UID}.3")

        async def found(query: str) -> list[str]:
            answer = await ask("GET", f"{ALL}?{query}")
            assert answer.status == 200
            assert LOCK.encode() not in answer.body
            return [one["00080018"]["Value"][0][len(UID) + 1 :] for one in answer.json]

        assert await found("") == ["1", "2", "3"]
        assert await found("00741000=SCHEDULED") == ["1", "2"]
        assert await found("ScheduledProcedureStepPriority=LOW&limit=1") == ["2"]
        assert await found("offset=1&limit=5") == ["2", "3"]
        start = "ScheduledProcedureStepStartDateTime"
        assert await found(f"{start}=20260502-20260503") == ["2", "3"]
        assert await found("includefield=all&TransactionUID=" + LOCK) == []
        cut = await ask("GET", f"{ALL}?limit=1")
        assert "additional results" in cut.headers["warning"]
    async with web_side({"web.empty_search": "204"}) as ask:
        assert (await ask("GET", ALL)).status == 204


async def test_dimse_and_the_web_have_the_same_workitems() -> None:
    async with web_side(listens=True) as ask:
        peer = Peer("ISOCENTER", "127.0.0.1", ask.port)
        async with open_association(peer, scu.CONTEXTS) as association:
            await scu.create_workitem(association, UID, scheduled())
            assert (await begin(ask)).status == 200
            await scu.set_workitem(association, UID, performed(), LOCK)
            await scu.change_state(association, UID, WorkitemState.COMPLETED, LOCK)
        assert (await ask("GET", ONE)).json["00741000"]["Value"] == ["COMPLETED"]


# -- Events ------------------------------------------------------------------------------


@asynccontextmanager
async def served(ask: WebSide) -> AsyncIterator[str]:
    """The same application behind a port; where its sockets are."""
    bind = ListenAddress(host="127.0.0.1", port=0)
    listeners = open_listener(bind)
    server = HttpServer(ask.application, HttpLimits())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, [(sock, bind) for sock in listeners])
            yield f"ws://127.0.0.1:{listeners[0].getsockname()[1]}/dicomweb/ws/subscribers"
            nursery.cancel_scope.cancel()
    finally:
        for sock in listeners:
            sock.close()


async def event(socket: Any) -> tuple[int, str, dict[str, Any]]:
    """The next event of a workitem; that the server has started may come at any time before."""
    while True:
        with trio.fail_after(120):
            told = orjson.loads(await socket.get_message())
        assert told["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.4"]
        assert told["00000100"]["Value"] == [256]
        assert LOCK not in str(told)
        kind, uid = told["00001002"]["Value"][0], told["00001000"]["Value"][0]
        if (kind, uid) != (EventType.SCP_STATUS_CHANGE, GLOBAL_SUBSCRIPTION):
            return kind, uid, told


async def test_two_subscribers_are_sent_events_from_every_source() -> None:
    async with web_side(listens=True) as ask, served(ask) as place:
        subscribed = await ask("POST", f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/ALL")
        assert subscribed.status == 201
        where = subscribed.headers["content-location"]
        assert where == "ws://localhost:8080/dicomweb/ws/subscribers/ALL"
        high = f"{ALL}/{FILTERED_SUBSCRIPTION}/subscribers/HIGH"
        assert (await ask("POST", f"{high}?ScheduledProcedureStepPriority=HIGH")).status == 201
        async with trio_websocket.open_websocket_url(f"{place}/ALL") as everything:
            await create(ask, f"{UID}.1")
            assert (await event(everything))[:2] == (1, f"{UID}.1")
            peer = Peer("ISOCENTER", "127.0.0.1", ask.port)
            async with open_association(peer, scu.CONTEXTS) as association:
                await scu.create_workitem(
                    association, f"{UID}.2", scheduled(ScheduledProcedureStepPriority="HIGH")
                )
            assert (await event(everything))[:2] == (1, f"{UID}.2")
            await begin(ask, f"{UID}.2")
            kind, uid, told = await event(everything)
            assert (kind, uid, told["00741000"]["Value"]) == (1, f"{UID}.2", ["IN PROGRESS"])
            await ask("POST", f"{ALL}/{UID}.2/cancelrequest")
            assert (await event(everything))[0] == 2
        # What came before its socket was there has waited.
        async with trio_websocket.open_websocket_url(f"{place}/HIGH") as high_only:
            assert [(await event(high_only))[0] for _ in range(3)] == [1, 1, 2]
        assert (
            await ask("POST", f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/ALL/suspend")
        ).status == 200
        await create(ask, f"{UID}.3")
        await begin(ask, f"{UID}.1")
        async with trio_websocket.open_websocket_url(f"{place}/ALL") as everything:
            told = await event(everything)
            if told[0] == 2:  # at least once: the socket was closed before it was noted as sent
                told = await event(everything)
            assert told[:2] == (1, f"{UID}.1")
        gone = await ask("DELETE", f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/ALL")
        assert gone.status == 200
        assert await ask.parts.stores.workitems.waiting_events("ALL", "", 10) == []


async def test_a_second_socket_takes_the_place_of_the_first() -> None:
    async with web_side() as ask, served(ask) as place:
        await create(ask)
        await ask("POST", f"{ONE}/subscribers/PAGE")
        async with trio_websocket.open_websocket_url(f"{place}/PAGE") as first:
            assert (await event(first))[0] == 1
            async with trio_websocket.open_websocket_url(f"{place}/PAGE") as second:
                with pytest.raises(trio_websocket.ConnectionClosed), trio.fail_after(120):
                    await first.get_message()
                await begin(ask)
                assert (await event(second))[0] == 1


async def _signed_in(request: Request, route: Route[Handler]) -> None:
    """Whoever a request says it is from; ``admin`` may set up the server."""
    name = request.header("x-user") or "nobody"
    request.caller = Principal(
        permissions=NEEDS["configure"] if name == "admin" else NEEDS["read"], user=name
    )


async def test_nobody_takes_the_events_of_another() -> None:
    async with web_side(authorize=_signed_in) as ask, served(ask) as place:
        await create(ask)
        page = f"{ONE}/subscribers/PAGE"
        assert (await ask("POST", page, x_user="one")).status == 201
        for method, path in (
            ("POST", page),
            ("POST", f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/PAGE"),
            ("POST", f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/PAGE/suspend"),
            ("DELETE", page),
        ):
            denied = await ask(method, path, x_user="two")
            assert (denied.status, denied.json["error"]["code"]) == (403, "NOT_YOURS")
        with pytest.raises(trio_websocket.HandshakeError):
            async with trio_websocket.open_websocket_url(
                f"{place}/PAGE", extra_headers=[(b"x-user", b"two")]
            ):
                pass
        async with trio_websocket.open_websocket_url(
            f"{place}/PAGE", extra_headers=[(b"x-user", b"one")]
        ) as hers:
            assert (await event(hers))[:2] == (1, UID)
        everything = f"{ALL}/{GLOBAL_SUBSCRIPTION}/subscribers/PAGE"
        assert (await ask("DELETE", everything, x_user="admin")).status == 200
        assert (await ask("POST", page, x_user="two")).status == 201


# -- Our client --------------------------------------------------------------------------


async def test_our_client_does_all_of_it_and_hears_of_it() -> None:
    async with web_side() as ask, served(ask) as place:
        base = place.replace("ws://", "http://").removesuffix("/ws/subscribers")
        async with DicomWebClient(base) as archive:
            client = archive.workitems
            await client.subscribe("ALL", has_lock=True)
            async with client.events("ALL") as events:
                where = await client.create(UID, scheduled())
                assert where.endswith(f"/workitems/{UID}")
                with pytest.raises(HttpStatusError) as caught:
                    await client.create(UID, scheduled())
                assert caught.value.status == 409
                with trio.fail_after(120):
                    told = await anext(events)
                assert told["00741000"]["Value"] == ["SCHEDULED"]
                await client.change_state(UID, WorkitemState.IN_PROGRESS, LOCK)
                await client.update(UID, progress("40"), LOCK)
                with trio.fail_after(120):
                    kinds = [(await anext(events))["00001002"]["Value"] for _ in range(2)]
                assert kinds == [[1], [3]]
            (found,) = await client.search([("ProcedureStepState", "IN PROGRESS")], limit=5)
            assert found["00080018"]["Value"] == [UID]
            await client.request_cancel(UID)
            await client.update(UID, performed(), LOCK)
            await client.change_state(UID, WorkitemState.COMPLETED, LOCK)
            got = await client.get(UID)
            assert got["00741000"]["Value"] == ["COMPLETED"]
            assert "00081195" not in got
            filtered = [("ScheduledProcedureStepPriority", "HIGH")]
            await client.subscribe("HIGH", FILTERED_SUBSCRIPTION, keys=filtered)
            await client.suspend("ALL")
            await client.unsubscribe("ALL")
            with pytest.raises(HttpClientError, match="opens no socket"):
                async with client.events("A\\B") as events:
                    await anext(events)
