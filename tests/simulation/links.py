"""What lies between a process of a node and what all nodes share: a database, and a bucket.

Requests are late, are lost, or their answers are; a process stands still for longer than its
leases, or dies; what it has sent by then is carried out all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import trio
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError

from isocenter.services.errors import StorageError
from isocenter.storage.objects.cloud.breaker import Breaker
from isocenter.storage.objects.cloud.bucket import Bucket
from simulation.world import World
from support.virtual_database import database_clock

T = TypeVar("T")

PLACE: Final = "s3://simulated"
_LOST: Final = "kind: Timeout"
#: What the write that is under way may only be done under; see `simulation.judge`.
BOUND_TO: Final[ContextVar[frozenset[str]]] = ContextVar("BOUND_TO", default=frozenset())


@dataclass(frozen=True, slots=True)
class Trouble:
    """How the way to the database and the bucket is.

    Attributes:
        latency: seconds of one way, at most.
        database, bucket: how probable it is that a request fails, or its answer is lost.
    """

    latency: float = 0.0
    database: float = 0.0
    bucket: float = 0.0


class Link:
    """The way of one process; see `support.virtual_database.Way`.

    Attributes:
        resumed_at: when it went on after it had stood still.
        is_dead: nothing of it arrives any more.
    """

    def __init__(self, world: World, name: str, trouble: Trouble) -> None:
        self.world = world
        self.name = name
        self.trouble = trouble
        self.resumed_at = 0.0
        self.is_dead = False
        self._hangs = False
        self._paused_until = 0.0
        #: By what the next write is bound to, for how long it stands still with that in hand.
        self._pauses_at: dict[str, float] = {}
        self._cut_until: dict[str, float] = {"database": 0.0, "bucket": 0.0}

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and after so long SIGCONT."""
        self.world.note(f"{self.name} stands still for {seconds:.0f} s")
        # What stands still already goes on no sooner for a second, shorter pause.
        self._paused_until = max(self._paused_until, trio.current_time() + seconds)
        self.resumed_at = self._paused_until

    def pause_at(self, kind: str, seconds: float) -> None:
        """It stands still with its next write of that kind in hand, which arrives afterwards."""
        self.world.note(f"{self.name} is to stand still at its next write under a {kind}")
        self._pauses_at[kind] = seconds

    def cut(self, what: str, seconds: float) -> None:
        """It does not reach the database, or the bucket, for so long; asking fails, or hangs."""
        self._hangs = self.world.random.random() < 0.5
        how = "hangs" if self._hangs else "fails"
        self.world.note(f"{self.name} does not reach the {what} for {seconds:.0f} s: it {how}")
        self._cut_until[what] = trio.current_time() + seconds

    def heal(self) -> None:
        """It reaches everything again."""
        self._cut_until = dict.fromkeys(self._cut_until, 0.0)

    async def gate(self) -> None:
        """Where it stands still; nothing wakes it, also not that it is cancelled."""
        while not self.is_dead and trio.current_time() < self._paused_until:
            with trio.CancelScope(shield=True):
                await trio.sleep_until(self._paused_until)

    def is_cut(self, what: str) -> bool:
        return trio.current_time() < self._cut_until[what]

    def _check_alive(self) -> None:
        if self.is_dead:
            raise StorageError("this process is dead")

    async def _travel(self) -> None:
        latency = 0.0 if self.world.calm else self.trouble.latency
        await trio.sleep(latency * self.world.random.random() ** 3)

    async def there(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        await self.gate()
        await self._travel()
        if self.is_cut("database"):
            if self._hangs:
                await trio.sleep_until(self._cut_until["database"])
            raise StorageError("the database does not answer")
        if self.world.happens(self.trouble.database):
            self.world.note(f"{self.name}: {name} fails")
            raise StorageError("the database is busy")
        # It may stand still with all in hand; and what it sends then is on its way.
        for kind in sorted(BOUND_TO.get() & self._pauses_at.keys()):
            self.pause(self._pauses_at.pop(kind))
        await self.gate()
        self._check_alive()

    async def back(self, name: str, *, writes: bool) -> None:
        is_lost = self.is_cut("database") or self.world.happens(self.trouble.database)
        await self._travel()
        await self.gate()
        self._check_alive()
        if is_lost:
            if writes:
                self.world.note(f"{self.name}: the answer of {name} is lost")
            raise StorageError("the answer of the database was lost")


@dataclass(slots=True)
class Objects:
    """All that is in the bucket, by path: bytes, and when they came."""

    held: dict[str, tuple[bytes, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Client:
    """The way of one process to the bucket; what the functions of obstore get."""

    link: Link
    objects: Objects

    def carry_out(self, name: str, request: Callable[[], T]) -> T:
        link = self.link
        if link.is_dead or link.is_cut("bucket"):
            raise GenericError(_LOST)
        if not link.world.happens(link.trouble.bucket):
            return request()
        is_done = link.world.random.random() < 0.5
        link.world.note(f"{link.name}: {name} {'loses its answer' if is_done else 'fails'}")
        if is_done:
            try:
                request()
            except (BaseError, OSError):
                pass
        raise GenericError(_LOST)


def _put(client: Client, path: str, parts: Iterator[Any], *, mode: str, **_: object) -> None:
    data = b"".join(bytes(part) for part in parts)

    def put() -> None:
        if mode == "create" and path in client.objects.held:
            raise AlreadyExistsError("it is there")
        client.objects.held[path] = (data, database_clock())

    client.carry_out("PUT", put)


def _meta(client: Client, path: str) -> dict[str, Any]:
    try:
        data, stored_at = client.objects.held[path]
    except KeyError:
        raise FileNotFoundError(path) from None
    return {"size": len(data), "last_modified": datetime.fromtimestamp(stored_at, UTC)}


def _head(client: Client, path: str) -> dict[str, Any]:
    return client.carry_out("HEAD", lambda: _meta(client, path))


def _get(client: Client, path: str, *, options: dict[str, Any]) -> Any:
    start, end = options["range"]

    def get() -> Any:
        meta = _meta(client, path)
        data = client.objects.held[path][0][start:end]
        return SimpleNamespace(meta=meta, bytes=lambda: data)

    return client.carry_out("GET", get)


def _delete(client: Client, path: str) -> None:
    client.carry_out("DELETE", lambda: client.objects.held.pop(path, None))


def _copy(client: Client, source: str, target: str, *, overwrite: bool) -> None:
    def copy() -> None:
        _meta(client, source)
        client.objects.held[target] = client.objects.held[source]

    client.carry_out("COPY", copy)


def _list(client: Client, prefix: str, *, chunk_size: int) -> Iterator[Sequence[Any]]:
    paths = sorted(path for path in client.objects.held if path.startswith(prefix))
    for start in range(0, len(paths), chunk_size):
        yield [{"path": path} for path in paths[start : start + chunk_size]]


#: Stands in for the module of that name in `isocenter.storage.objects.cloud.bucket`.
OBSTORE: Final = SimpleNamespace(
    put=_put, head=_head, get=_get, delete=_delete, copy=_copy, list=_list,
    exceptions=SimpleNamespace(BaseError=BaseError),
)  # fmt: skip


class LinkedBucket(Bucket):
    """The real one, of a process that may stand still."""

    def __init__(self, link: Link, objects: Objects) -> None:
        client: Any = Client(link, objects)
        super().__init__(client, client, place=PLACE, requests=8, breaker=Breaker(PLACE))
        self._link = link

    async def _run(self, *arguments: Any, **named: Any) -> Any:
        await self._link.gate()
        try:
            return await super()._run(*arguments, **named)
        finally:
            await self._link.gate()
