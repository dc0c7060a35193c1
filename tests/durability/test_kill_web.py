"""`kill -9` at any moment while clients store over HTTP: what was answered 200 is there.

As in `test_kill`: one archive lives through all kills, and a step that was chosen by chance is the
last that it sees.  Requests bring several objects each, as they are or as metadata and bulk data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio

from durability.test_kill import KILLS, Ledger, check, started, verify
from durability.workload import ConnectionLost, Item
from isocenter.engine.dataset import EXPLICIT_LITTLE
from isocenter.services.dicom.bulk_data import BulkValue
from isocenter.services.dicom.json_writer import json_of
from support.dicomweb import body

pytestmark = pytest.mark.slow

CLIENTS = 4
#: Requests of one client between two kills, more than it gets through; and objects of each.
REQUESTS = 100
OBJECTS = 5
#: The last step is one of so many: requests begun, half sent, sent, and answered.
MOST_STEPS = 160


class WebLoad:
    """Clients that store until the connection breaks; *last* is done at the chosen step."""

    def __init__(self, url: str, ledger: Ledger, steps: int, last: Callable[[], None]) -> None:
        self._host = url.removeprefix("http://").removesuffix("/dicomweb")
        self._ledger = ledger
        self._steps = steps
        self._last = last

    def _step(self) -> None:
        self._steps -= 1
        if not self._steps:
            self._last()

    async def run(self, studies: range) -> None:
        async with trio.open_nursery() as nursery:
            for study in studies:
                nursery.start_soon(self._client, study)

    async def _client(self, study: int) -> None:
        name, _, port = self._host.partition(":")
        try:
            async with await trio.open_tcp_stream(name, int(port)) as stream:
                for request in range(REQUESTS):
                    first = 1 + request * OBJECTS
                    items = [
                        Item(study, number, _size(number))
                        for number in range(first, first + OBJECTS)
                    ]
                    await self._store(stream, items, is_described=request % 2 == 1)
        except (OSError, trio.BrokenResourceError, ConnectionLost):
            pass

    async def _store(
        self, stream: trio.SocketStream, items: list[Item], *, is_described: bool
    ) -> None:
        sent = _described(items) if is_described else _whole(items)
        content: bytes = sent["content"]
        head = (
            f"POST /dicomweb/studies HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: {sent['headers']['content-type']}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        ).encode()
        self._ledger.begun |= {item.uid: item for item in items}
        third = len(content) // 3
        for piece in (head + content[:third], content[third:-third], content[-third:]):
            await stream.send_all(piece)
            self._step()
        status = await _answer(stream)
        assert status == 200
        self._ledger.acknowledged |= {item.uid: item for item in items}
        self._step()


def _size(number: int) -> int:
    return (1 << 20) + 70_001 if number % 24 == 0 else 500 + 700 * (number % 20)


def _whole(items: list[Item]) -> dict[str, object]:
    return body("application/dicom", *(("application/dicom", one.part10("")) for one in items))


def _described(items: list[Item]) -> dict[str, object]:
    models, parts = [], []
    for item in items:
        uris: list[str] = []

        def place(value: BulkValue, item: Item = item, uris: list[str] = uris) -> str:
            uris.append(f"{item.uid}/{value.path_text}")
            return uris[-1]

        data = item.data_set()
        models.append(json.loads(json_of(data, EXPLICIT_LITTLE, bulk=place)))
        parts += [("application/octet-stream", uri, data[-(item.size & ~1) :]) for uri in uris]
    kind = "application/dicom+json"
    return body(kind, (kind, json.dumps(models).encode()), *parts)


async def _answer(stream: trio.SocketStream) -> int:
    """The status of a response, once all of it is here."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _some(stream)
    head, _, rest = data.partition(b"\r\n\r\n")
    (length,) = (
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    while len(rest) < length:
        rest += await _some(stream)
    return int(head.split()[1])


async def _some(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some()
    if not data:
        raise ConnectionLost
    return bytes(data)


async def test_kill_9_while_objects_come_over_http(tmp_path: Path) -> None:
    kills = max(KILLS // 2, 2)
    ledger = Ledger()
    random = Random(kills)
    studies = range(0)
    for _ in range(kills):
        with started(tmp_path) as archive:
            await check(archive, ledger, studies, on_the_way=OBJECTS)
            studies = range(studies.stop, studies.stop + CLIENTS)
            steps = random.randint(1, MOST_STEPS)
            await WebLoad(archive.web_url, ledger, steps, archive.kill).run(studies)
    with started(tmp_path) as archive:
        await check(archive, ledger, range(studies.stop), on_the_way=OBJECTS)
        verify(archive)
    print(f"{len(ledger.acknowledged)} objects were answered 200 over {kills} kills")
