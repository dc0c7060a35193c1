"""The lines of the web table, and how one cell of it is measured."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from peers import objects
from peers.load import Done, run_workers
from peers.objects import CT_SIDE, FRAME_BYTES
from peers.programs import Program
from peers.rows import Figure, Measured, Numbers, Sample
from peers.web_client import HttpClient
from peers.web_servers import WebKind, WebPlace
from peers.wire import Failed

_MS: Final = 1e3
_MEBI: Final = 1 << 20
_TINY_SIDE: Final = 8
_STOW_SIDE: Final = 256
#: Instances in one request that stores.
_STOW_INSTANCES: Final = 8
_BOUNDARY: Final = b"benchmark-0123456789abcdef"
_FILL_CONNECTIONS: Final = 4
_JSON: Final = "application/dicom+json"
#: As viewers ask for them.
_FRAME: Final = "multipart/related; type=application/octet-stream; transfer-syntax=*"
_JPEG: Final = "image/jpeg"
_OBJECTS: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_PAGE: Final = (
    "limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebScale:
    """How much is done: for figures, or only to see that everything works."""

    seconds: float = 3.0
    series: int = 1_000
    studies: int = 1_000
    frames: int = 2_000
    stow_instances: int = 400


WEB_QUICK: Final = WebScale(seconds=0.3, series=20, studies=30, frames=20, stow_instances=16)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a server has: numbers of studies."""

    series: int
    studies: int
    multi_frame: int


@dataclass(slots=True)
class WebRunning:
    """A server that was started."""

    kind: WebKind
    place: WebPlace
    program: Program
    scale: WebScale
    numbers: Numbers
    filled: Filled | None = None

    def client(self, host: str = "127.0.0.1") -> HttpClient:
        return HttpClient(self.place.http_port, host)

    def run(self, work: Callable[[int], Done], connections: int = 1) -> Measured:
        return run_workers(work, connections, self.program)

    def series_path(self) -> str:
        assert self.filled is not None
        return _series_path(self.kind.root, self.filled.series)

    def instance_path(self, number: int) -> str:
        return f"{self.series_path()}/instances/{objects.instance_uid(number)}"

    def fill(self) -> None:
        """Store what is asked for."""
        scale, numbers = self.scale, self.numbers
        series = numbers.take(scale.series)
        self.stow(objects.image(CT_SIDE), [(series + n, series) for n in range(scale.series)])
        studies = numbers.take(scale.studies)
        tiny = objects.image(_TINY_SIDE)
        self.stow(tiny, [(studies + n, studies + n) for n in range(scale.studies)])
        multi_frame = numbers.take(1)
        self.stow_multi_frame(multi_frame)
        self.filled = Filled(series, studies, multi_frame)

    def stow(self, template: objects.Template, named: Sequence[tuple[int, int]]) -> Measured:
        """Store objects, each as a number of a study, over some connections."""

        def work(index: int) -> Done:
            client = self.client()
            began = time.monotonic()
            mine = named[index::_FILL_CONNECTIONS]
            for start in range(0, len(mine), _STOW_INSTANCES):
                some = mine[start : start + _STOW_INSTANCES]
                _store(client, self.kind.root, [objects.renamed(template.file, *n) for n in some])
            return Done(began, time.monotonic(), len(mine))

        return self.run(work, _FILL_CONNECTIONS)

    def stow_multi_frame(self, number: int) -> None:
        file = objects.multi_frame_file(self.scale.frames)
        head = memoryview(objects.renamed(file, number, number))
        frame = memoryview(os.urandom(FRAME_BYTES))

        def work(index: int) -> Done:
            began = time.monotonic()
            client = self.client()
            _stow(client, self.kind.root, [[head, *[frame] * self.scale.frames]])
            return Done(began, time.monotonic(), 1)

        self.run(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRow:
    """Lines of the table that are measured together."""

    name: str
    figures: tuple[Figure, ...]
    measure: Callable[[WebRunning], Measured]


def measure_web(row: WebRow, running: WebRunning) -> Sample:
    """Raises:
    Failed: the server did something else than what is measured.
    """
    os.sync()
    done, cost = row.measure(running)
    operations = sum(each.operations for each in done)
    if not operations:
        raise Failed("nothing was done in time")
    spent = max(each.ended for each in done) - min(each.began for each in done)
    values = done[0].values or (operations / spent,)
    return Sample(
        values,
        cost.cpu_seconds / operations * 1e6,
        cost.idle_bytes,
        cost.peak_bytes,
        ", ".join(dict.fromkeys(each.note for each in done if each.note)),
    )


def _store(client: HttpClient, root: str, files: Sequence[bytes]) -> None:
    _stow(client, root, [[file] for file in files])


def _stow(client: HttpClient, root: str, files: Sequence[Sequence[bytes | memoryview]]) -> None:
    body: list[bytes | memoryview] = []
    for pieces in files:
        body.append(b"\r\n--" + _BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n")
        body += pieces
    body.append(b"\r\n--" + _BOUNDARY + b"--\r\n")
    content = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY.decode()}'
    client.request("POST", f"{root}/studies", {"Content-Type": content, "Accept": _JSON}, body)


def _series_path(root: str, number: int) -> str:
    return f"{root}/studies/{objects.study_uid(number)}/series/{objects.series_uid(number)}"


def _timed(running: WebRunning, ask: Callable[[HttpClient, int], None], host: str) -> Measured:
    """One connection: the middle, and 99 of 100, in milliseconds."""

    def work(index: int) -> Done:
        client = running.client(host)
        ask(client, 0)
        times: list[float] = []
        began = ended = time.monotonic()
        while ended - began < running.scale.seconds or not times:
            asked = time.monotonic()
            ask(client, len(times) + 1)
            ended = time.monotonic()
            times.append((ended - asked) * _MS)
        last = sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]
        return Done(began, ended, len(times), (statistics.median(times), last))

    return running.run(work)


def _metadata(running: WebRunning, *, host: str = "127.0.0.1", again: bool = False) -> Measured:
    path = f"{running.series_path()}/metadata"
    headers = {"Accept": _JSON, "Accept_Encoding": "gzip"}
    if again:
        tag = running.client(host).get(path, **headers).headers.get("etag")
        if tag is None:
            raise Failed("no ETag")
        headers["If_None_Match"] = tag

    def ask(client: HttpClient, number: int) -> None:
        answer = client.get(path, **headers)
        if again is not (answer.status == 304):
            raise Failed(f"status {answer.status}")

    return _timed(running, ask, host)


def _frames(running: WebRunning, connections: int) -> Measured:
    assert running.filled is not None
    first, count = running.filled.series, running.scale.series
    if connections == 1:

        def ask(client: HttpClient, number: int) -> None:
            path = running.instance_path(first + number % count)
            _whole(client.get(f"{path}/frames/1", Accept=_FRAME).length)

        return _timed(running, ask, "127.0.0.1")

    def work(index: int) -> Done:
        client = running.client()
        done = 0
        began = ended = time.monotonic()
        while ended - began < running.scale.seconds:
            path = running.instance_path(first + (index + connections * done) % count)
            _whole(client.get(f"{path}/frames/1", Accept=_FRAME).length)
            done += 1
            ended = time.monotonic()
        return Done(began, ended, done)

    return running.run(work, connections)


def _whole(length: int) -> None:
    if length < FRAME_BYTES:
        raise Failed(f"a frame of {length} bytes")


def _series(running: WebRunning) -> Measured:
    path = running.series_path()

    def work(index: int) -> Done:
        client = running.client()
        sizes = 0
        began = ended = time.monotonic()
        while ended - began < running.scale.seconds or not sizes:
            answer = client.get(path, Accept=_OBJECTS)
            if answer.length < running.scale.series * FRAME_BYTES:
                raise Failed(f"a series of {answer.length} bytes")
            sizes += answer.length
            ended = time.monotonic()
        note = "" if "content-length" in answer.headers else "no length"
        return Done(began, ended, sizes / _MEBI, note=note)

    return running.run(work)


def _multi_frame(running: WebRunning) -> Measured:
    assert running.filled is not None
    number, count = running.filled.multi_frame, running.scale.frames
    path = f"{_series_path(running.kind.root, number)}/instances/{objects.instance_uid(number)}"

    def ask(client: HttpClient, asked: int) -> None:
        frame = 1 + asked * 7919 % count
        _whole(client.get(f"{path}/frames/{frame}", Accept=_FRAME).length)

    return _timed(running, ask, "127.0.0.1")


def _rendered(running: WebRunning) -> Measured:
    assert running.filled is not None
    first, count = running.filled.series, running.scale.series

    def ask(client: HttpClient, number: int) -> None:
        path = running.instance_path(first + number % count)
        if client.get(f"{path}/rendered", Accept=_JPEG).headers.get("content-type") != _JPEG:
            raise Failed("no picture")

    return _timed(running, ask, "127.0.0.1")


def _search(running: WebRunning) -> Measured:
    path = f"{running.kind.root}/studies?{_PAGE}"

    def ask(client: HttpClient, number: int) -> None:
        client.get(path, Accept=_JSON)

    return _timed(running, ask, "127.0.0.1")


def _stow_row(running: WebRunning, side: int) -> Measured:
    count = running.scale.stow_instances
    first = running.numbers.take(count)
    return running.stow(objects.image(side), [(first + n, first) for n in range(count)])


def web_rows(scale: WebScale) -> Iterator[WebRow]:
    """All of them."""

    def latency(title: str) -> tuple[Figure, ...]:
        return (Figure(title, "ms", "request"), Figure(f"{title}, 99 %", "ms", "request"))

    of = f"of a series of {scale.series:,}"
    gigabytes = scale.frames * FRAME_BYTES / 1e9
    yield WebRow(name="metadata", figures=latency(f"Metadata {of}"), measure=_metadata)
    yield WebRow(
        name="metadata-304",
        figures=latency(f"Metadata {of}, asked again with its ETag"),
        measure=partial(_metadata, again=True),
    )
    yield WebRow(
        name="metadata-other",
        figures=latency(f"Metadata {of}, under another host name"),
        measure=partial(_metadata, host="localhost"),
    )
    yield WebRow(
        name="frame", figures=latency("A frame of 512 KiB"), measure=partial(_frames, connections=1)
    )
    yield WebRow(
        name="frames-6",
        figures=(Figure("Frames of 512 KiB, 6 connections", "/s", "frame"),),
        measure=partial(_frames, connections=6),
    )
    yield WebRow(
        name="series",
        figures=(Figure(f"A series of {scale.series:,} as stored", "MiB/s", "MiB"),),
        measure=_series,
    )
    yield WebRow(
        name="multi-frame",
        figures=latency(f"A frame of a multi-frame of {gigabytes:.1f} GB"),
        measure=_multi_frame,
    )
    yield WebRow(
        name="rendered",
        figures=latency("A picture (JPEG) of 512 × 512 samples"),
        measure=_rendered,
    )
    yield WebRow(
        name="search",
        figures=latency(f"A page of 101 among {scale.studies:,} studies"),
        measure=_search,
    )
    for side, kibibytes in ((_STOW_SIDE, 128), (CT_SIDE, 512)):
        yield WebRow(
            name=f"stow-{kibibytes}",
            figures=(Figure(f"STOW of {kibibytes} KiB, 4 connections", "/s", "instance"),),
            measure=partial(_stow_row, side=side),
        )
