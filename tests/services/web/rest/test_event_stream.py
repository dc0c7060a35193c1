"""Events as a stream: who hears what, from where on, and within which bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio
import trio.testing

from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.net.tls.contexts import ClientCertificates, TlsFiles, server_context
from isocenter.services.security.access.permissions import ROLES, Permissions
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.web.principal import Principal
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.ports import EventSelection
from services.archive_support import STUDY, store
from services.web.signed_in import ALICE, Site, opened
from support.web_archive import http_serving

ADMINISTRATOR = replace(ALICE, name="admin", roles=("Administrator",))


class Log:
    """An event log in memory, as far as streams ask it."""

    def __init__(self) -> None:
        self.kept: list[StoredEvent] = []
        self.number = 0
        self.asked = 0

    def add(self, kind: str, study: str = "1.2", **fields: object) -> None:
        self.number += 1
        body = orjson.dumps({"study_instance_uid": study, **fields}).decode()
        self.kept.append(
            StoredEvent(number=self.number, kind=kind, at=0.0, study_instance_uid=study, body=body)
        )

    async def last_number(self) -> int:
        self.asked += 1
        return self.number

    async def events(self, selection: EventSelection) -> Sequence[StoredEvent]:
        assert selection.after is not None
        found = [
            one
            for one in self.kept
            if one.number > selection.after
            and (not selection.kinds or one.kind in selection.kinds)
            and selection.study_instance_uid in (None, one.study_instance_uid)
        ]
        return found[: selection.limit]


def request_of(
    query: str = "", permissions: Permissions = ROLES["System"], last: str = "", user: str = "a"
) -> Request:
    async def nothing() -> dict[str, object]:
        return {"type": "http.request"}

    request = Request(
        {
            "type": "http", "method": "GET", "scheme": "https", "raw_path": b"/api/v1/events",
            "query_string": query.encode(), "client": ("10.0.0.7", 1),
            "headers": [(b"last-event-id", last.encode())] if last else [],
        },
        nothing,
    )  # fmt: skip
    request.caller = Principal(permissions=permissions, user=user)
    return request


async def allowed(request: Request) -> bool:
    return True


def streams_of(log: Any, **options: Any) -> EventStreams:
    return EventStreams(log, **{"is_allowed_still": allowed, **options})


@asynccontextmanager
async def listening(response: Response) -> AsyncIterator[AsyncGenerator[bytes, None]]:
    body = response.body
    assert isinstance(body, AsyncGenerator)
    try:
        yield body
    finally:
        await body.aclose()
        assert response.close is not None
        response.close()


async def heard(response: Response, most: int = 100) -> list[tuple[str, str]]:
    """ID and kind of what is in a stream until it ends."""
    async with listening(response) as body:
        text = b"".join([piece async for piece in body]).decode()
    return events_in(text)[:most]


def events_in(text: str) -> list[tuple[str, str]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "event" in fields:
            orjson.loads(fields["data"])
            found.append((fields.get("id", ""), fields["event"]))
    return found


async def test_what_happens_from_now_on_is_heard(autojump_clock: trio.testing.MockClock) -> None:
    log = Log()
    log.add("study.opened")
    streams = streams_of(log)
    async with listening(await streams.stream(request_of())) as body:
        assert await anext(body) == b"retry: 3000\n\n"
        log.add("study.complete", "1.3", patient={"patient_name": "Doe^Jane"}, reason="silence")
        said = (await anext(body)).decode()
        assert events_in(said) == [("2", "study.complete")]
        assert "Doe" not in said
        assert "silence" in said
        # Proxies close what is quiet.
        assert await anext(body) == b": quiet\n\n"


@pytest.mark.parametrize(
    ("query", "last", "ids"),
    [
        ("after=1", "", ["2", "3"]),
        ("", "2", ["3"]),
        ("after=1", "2", ["3"]),
        ("after=1&study=1.3", "", ["3"]),
        ("after=0&kind=study.opened&kind=mpps.changed", "", ["1", "3"]),
        ("after=3", "", []),
        ("after=9", "", [""]),  # of another archive: look anew
    ],
)
async def test_who_comes_again_misses_nothing(
    query: str, last: str, ids: list[str], autojump_clock: trio.testing.MockClock
) -> None:
    log = Log()
    log.add("study.opened")
    log.add("study.complete")
    log.add("mpps.changed", "1.3")
    streams = streams_of(log, most_seconds=5.0)
    found = await heard(await streams.stream(request_of(query, last=last)))
    assert [number for number, _ in found] == ids


async def test_who_comes_too_late_is_told_so(autojump_clock: trio.testing.MockClock) -> None:
    log = Log()
    for _ in range(5):
        log.add("study.opened")
    del log.kept[:3]
    streams = streams_of(log, most_seconds=2.0)
    assert await heard(await streams.stream(request_of("after=1"))) == [("", "reset")]
    assert [kind for _, kind in await heard(await streams.stream(request_of("after=3")))] == [
        "study.opened"
    ] * 2


async def test_many_events_come_in_pieces(autojump_clock: trio.testing.MockClock) -> None:
    log = Log()
    for _ in range(450):
        log.add("instance.stored")
    streams = streams_of(log, most_seconds=3.0)
    found = await heard(await streams.stream(request_of("after=0")), 1_000)
    assert [number for number, _ in found] == [str(number) for number in range(1, 451)]


@pytest.mark.parametrize(
    ("role", "kinds"),
    [
        ("Viewer", ["study.opened", "mpps.changed"]),
        ("Administrator", ["association.refused", "commitment.done"]),
        ("System", ["study.opened", "association.refused", "mpps.changed", "commitment.done"]),
        ("", []),
    ],
)
async def test_everybody_hears_what_they_may_see(
    role: str, kinds: list[str], autojump_clock: trio.testing.MockClock
) -> None:
    log = Log()
    for kind in ("study.opened", "association.refused", "mpps.changed", "commitment.done"):
        log.add(kind)
    streams = streams_of(log, most_seconds=2.0)
    request = request_of("after=0", ROLES.get(role, {}))
    assert [kind for _, kind in await heard(await streams.stream(request))] == kinds


@pytest.mark.parametrize("query", ["after=x", "after=-1", "kind=study.lost", "after=" + "9" * 20])
async def test_what_cannot_be_is_told(query: str) -> None:
    with pytest.raises(HttpError) as refused:
        await streams_of(Log()).stream(request_of(query))
    assert refused.value.status == 400


async def test_without_events_there_is_no_stream() -> None:
    with pytest.raises(HttpError) as refused:
        await streams_of(None).stream(request_of())
    assert refused.value.status == 503


async def test_streams_are_bounded_for_each_and_for_all() -> None:
    streams = streams_of(Log(), most=3, most_per_caller=2)
    taken = [await streams.stream(request_of()) for _ in range(2)]
    with pytest.raises(HttpError) as refused:
        await streams.stream(request_of())
    assert refused.value.status == 429
    taken.append(await streams.stream(request_of(user="b")))
    with pytest.raises(HttpError) as refused:
        await streams.stream(request_of(user="c"))
    assert refused.value.status == 503
    for response in taken:
        assert response.close is not None
        response.close()
    assert streams.open == 0


async def test_a_stream_ends_with_what_its_caller_has_shown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    is_good = True

    async def is_allowed_still(request: Request) -> bool:
        return is_good

    streams = streams_of(Log(), is_allowed_still=is_allowed_still)
    async with listening(await streams.stream(request_of())) as body:
        assert await anext(body)
        assert await anext(body) == b": quiet\n\n"
        is_good = False
        assert [piece async for piece in body] == []


async def test_a_stream_that_is_never_quiet_ends_with_it_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = Log()

    async def is_allowed_still(request: Request) -> bool:
        return False

    streams = streams_of(log, is_allowed_still=is_allowed_still)
    pieces = 0
    async with listening(await streams.stream(request_of())) as body:
        log.add("study.complete")
        async for _ in body:
            pieces += 1
            log.add("study.complete")
    assert 2 < pieces < 30


async def test_streams_end_when_the_server_stops(autojump_clock: trio.testing.MockClock) -> None:
    streams = streams_of(Log())
    async with listening(await streams.stream(request_of())) as body:
        await anext(body)
        streams.end()
        assert [piece async for piece in body] == []


async def test_many_streams_ask_the_database_once(autojump_clock: trio.testing.MockClock) -> None:
    log = Log()
    streams = streams_of(log, most_per_caller=50, most_seconds=10.0)
    responses = [await streams.stream(request_of()) for _ in range(20)]
    log.asked = 0
    async with trio.open_nursery() as nursery:
        for response in responses:
            nursery.start_soon(heard, response)
    assert log.asked <= 25


# -- Of an archive, over a connection ----------------------------------------------------------


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=(ADMINISTRATOR,)) as found:
        yield found


async def test_a_study_that_arrives_is_told_to_who_looks(site: Site) -> None:
    cookie = await site.cookie()
    assert "arrivals.js" in (await site.client.get("/", headers=cookie)).text
    site.streams.most_seconds = 60.0
    address = httpx.URL(site.root)
    assert address.port is not None
    async with await trio.open_tcp_stream("127.0.0.1", address.port) as stream:
        fields = f"host: 127.0.0.1\r\ncookie: {cookie['cookie']}\r\n\r\n"
        await stream.send_all(f"GET /api/v1/events?kind=study.opened HTTP/1.1\r\n{fields}".encode())
        said = b""
        while b"retry" not in said:
            said += await stream.receive_some()
        assert b"Content-Type: text/event-stream" in said
        await store(site.parts.archive, 1)
        while b'"study_instance_uid"' not in said:
            said += await stream.receive_some()
        assert STUDY.encode() in said
    await _until_closed(site)


async def _until_closed(site: Site) -> None:
    """The server sees by itself that the browser has gone."""
    with trio.fail_after(120):
        while site.streams.open:
            await trio.lowlevel.checkpoint()


async def test_who_is_not_known_hears_nothing(site: Site) -> None:
    answer: httpx.Response = await site.client.get("/api/v1/events", headers={"accept": "*/*"})
    assert answer.status_code == 401
    assert answer.json()["code"] == "NOT_SIGNED_IN"


@pytest.mark.interop("curl")
@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
async def test_curl_hears_it_over_both_versions(option: str, version: str, tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    ca.issue("HERE", hosts=["127.0.0.1"], folder=tmp_path)
    files = TlsFiles(
        certificate=tmp_path / "HERE.crt", key=tmp_path / "HERE.key", ca=ca.certificate_path
    )
    context = server_context(
        files, client_certificates=ClientCertificates.OPTIONAL, protocols=("h2", "http/1.1")
    )
    log = Log()
    log.add("study.opened")
    log.add("study.complete")
    streams = streams_of(log, most_seconds=0.0)

    async def authorize(request: Request, route: Route[Any]) -> None:
        request.caller = Principal(permissions=ROLES["System"])

    application = RoutedApplication(RouteTable(streams.routes()), authorize=authorize)
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)
    async with http_serving(application, bind) as url:
        command = [
            "curl",
            "-sSi",
            option,
            "--cacert",
            str(files.ca),
            f"{url}/api/v1/events?after=0",
        ]
        done = await trio.run_process(command, capture_stdout=True)
    said = done.stdout.decode()
    assert said.startswith(f"HTTP/{version} 200")
    assert events_in(said.partition("retry: 3000")[2]) == [
        ("1", "study.opened"), ("2", "study.complete"),
    ]  # fmt: skip


async def test_who_does_not_read_is_cut() -> None:
    """Nothing piles up for a caller that takes nothing: it is read for when there is room."""
    log = Log()
    for _ in range(200):
        log.add("study.opened", why="x" * 50_000)
    given = 0

    async def counted(selection: EventSelection) -> Sequence[StoredEvent]:
        nonlocal given
        given += 1
        log.number += 200
        return [replace(one, number=log.number - 399 + at) for at, one in enumerate(log.kept)]

    log.events = counted  # type: ignore[method-assign]  # there is always more
    streams = streams_of(log)

    async def authorize(request: Request, route: Route[Any]) -> None:
        request.caller = Principal(permissions=ROLES["System"])

    application = RoutedApplication(RouteTable(streams.routes()), authorize=authorize)
    bind = ListenAddress(host="127.0.0.1", port=0)
    (listener,) = open_listener(bind)
    with listener:
        async with trio.open_nursery() as nursery:
            server = HttpServer(application, HttpLimits(send_seconds=0.5))
            nursery.start_soon(server.run, [(listener, bind)])
            async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
                await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
                with trio.fail_after(60):
                    while not streams.open:
                        await trio.lowlevel.checkpoint()
                    log.number += 200
                    while streams.open:
                        await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert 0 < given < 10
