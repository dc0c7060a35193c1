"""One seed: how the world is, what happens in it, and what must be true in the end."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final
from unittest.mock import patch

import trio

from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.association.peer import Peer
from simulation.clients import Client
from simulation.disk import Disk, FileDisk, Machine, MemoryDisk
from simulation.ledger import Ledger
from simulation.node import PORT, Configuration, Node
from simulation.wire import Network, Weather
from simulation.world import World

#: Virtual seconds within which all clients must be done, whatever the faults.
_CLIENTS_SECONDS: Final = 4 * 3600
#: The same for associations of which only the server's side is left.
_LAST_SECONDS: Final = 3600
#: How many seeds have a world in which nothing goes wrong, and no wait takes longer than this.
_FAIR: Final = 0.15
_QUICK_SECONDS: Final = 0.01
#: Seconds for stopping, starting again and looking at what is there.
_AFTERWARDS_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Plan:
    """How the world of one seed is.

    Attributes:
        is_fair: nothing goes wrong, so nothing may fail.
        crashes: the steps of storage before which the archive's process ends.
        power: whether it ends by a power failure (not None), and unsynced names survive it.
        failure: how probable it is that a step of storage fails.
        restart_at: seconds after which the archive is asked to stop, and started again.
    """

    is_fair: bool
    on_files: bool
    power: bool | None
    duplicates: DuplicatePolicy
    crashes: tuple[int, ...]
    failure: float
    hop_seconds: float
    clients: int
    associations: int
    things: int
    studies: int
    most_bytes: int
    window: int
    max_pdu_length: int
    memory_budget: int
    most_associations: int
    restart_at: float | None
    weather: Weather

    @classmethod
    def drawn(cls, world: World) -> Plan:
        """What the seed says."""
        random = world.random
        chance = random.random
        is_fair = chance() < _FAIR
        plan = cls(
            is_fair=is_fair,
            on_files=chance() < 0.3,
            power=random.choice((None, True, False)),
            duplicates=random.choice(list(DuplicatePolicy)),
            crashes=tuple(
                sorted(int(1 + 300 ** random.random()) for _ in range(random.choice((0, 0, 1, 3))))
            ),
            failure=random.choice((0, 0, 0, 0.01, 0.1, 0.5)),
            hop_seconds=random.choice((0, 0.001, 0.001, 0.1, 0.1, 5, 100)),
            clients=random.randint(1, 4),
            associations=random.randint(1, 3),
            things=random.choice((2, 6, 20)),
            studies=random.randint(1, 3),
            most_bytes=random.choice((64, 2_000, 40_000, 400_000)),
            window=random.choice((0, 1, 2, 5)),
            max_pdu_length=random.choice((4 << 10, 16 << 10, 128 << 10)),
            memory_budget=random.choice((4_000, 60_000, 1 << 20, 64 << 20)),
            most_associations=random.choice((1, 3, 100, 100, 100)),
            restart_at=100 * chance() ** 2 if chance() < 0.15 else None,
            weather=Weather(
                room=random.choice((200, 8_000, 64 << 10, 1 << 20)),
                latency=random.choice((0, 0.0001, 0.02, 1)),
                pieces=random.choice((1, 20, 1_500, 100_000)),
                cut=random.choice((0, 0, 0.1, 0.4)),
                stall=random.choice((0, 0, 0.1, 0.4)),
                reach=random.choice((300, 3_000, 100_000)),
            ),
        )
        if not is_fair:
            return plan
        return replace(
            plan,
            crashes=(),
            failure=0,
            hop_seconds=min(plan.hop_seconds, _QUICK_SECONDS),
            memory_budget=64 << 20,
            most_associations=100,
            restart_at=None,
            weather=replace(
                plan.weather,
                cut=0,
                stall=0,
                latency=min(plan.weather.latency, _QUICK_SECONDS),
                pieces=max(plan.weather.pieces, 1_500),
                room=max(plan.weather.room, 8_000),
            ),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to.

    Attributes:
        digest: hash of the whole trace: the same for the same seed, always and everywhere.
        lines: how many it had.
        last_lines: the end of it.
    """

    seed: int
    plan: Plan
    digest: str
    lines: int
    violations: tuple[str, ...]
    last_lines: tuple[str, ...]


def simulate(seed: int, show: Callable[[str], None] | None = None) -> Result:
    """Run one seed; *show* gets each line of its trace."""
    world = World(seed, show)
    plan = Plan.drawn(world)
    if show is not None:
        for each in fields(plan):
            show(f"{each.name:>18}: {getattr(plan, each.name)}")
    world.threads_take(plan.hop_seconds)
    archive_machine = Machine(world, "archive", frozenset(plan.crashes), plan.failure)
    disks: list[Disk] = [
        FileDisk(archive_machine, power=plan.power, memory_per_object=4_000)
        if plan.on_files
        else MemoryDisk(archive_machine),
        MemoryDisk(Machine(world, "other", frozenset(), 0)),
    ]
    try:
        world.run(lambda: _Scenario(world, plan, *disks).run())
    except (Exception, BaseExceptionGroup) as error:  # whatever it is, it belongs to this seed
        world.violations.append("".join(traceback.format_exception(error)))
    finally:
        for disk in disks:
            disk.close()
    return Result(
        seed,
        plan,
        world.digest,
        world.lines,
        tuple(world.violations),
        tuple(world.last_lines),
    )


class _Scenario:
    def __init__(self, world: World, plan: Plan, archive_disk: Disk, other_disk: Disk) -> None:
        self._world = world
        self._plan = plan
        self._disks = archive_disk, other_disk
        self._network = Network(world, plan.weather)
        self._ledger = Ledger(world, plan.duplicates)

    async def run(self) -> None:
        with patch("isocenter.services.association.requestor.connect", self._network.connect):
            archive, other = self._nodes()
            async with trio.open_nursery() as nodes:
                nodes.start_soon(archive.run)
                nodes.start_soon(other.run)
                with trio.move_on_after(_CLIENTS_SECONDS) as scope:
                    await self._clients(archive)
                self._world.check(not scope.cancelled_caught, "clients without an end")
                for node in (archive, other):
                    await node.until_idle(_LAST_SECONDS)
                self._world.note("calm")
                self._world.calm = True
                await archive.stop()
                await other.stop()
                nodes.cancel_scope.cancel()
            with trio.move_on_after(_AFTERWARDS_SECONDS) as scope:
                await self._afterwards()
            self._world.check(not scope.cancelled_caught, "no end afterwards")

    def _nodes(self) -> tuple[Node, Node]:
        plan = self._plan
        configuration = Configuration(
            duplicates=plan.duplicates,
            memory_budget=plan.memory_budget,
            operations_window=plan.window,
            max_pdu_length=plan.max_pdu_length,
            associations=plan.most_associations,
        )
        peers = (Peer("OTHER", "other", PORT), Peer("NOBODY", "nobody", PORT))
        return (
            Node(self._world, self._network, "ARCHIVE", self._disks[0], configuration, peers),
            Node(self._world, self._network, "OTHER", self._disks[1], configuration),
        )

    async def _clients(self, archive: Node) -> None:
        plan = self._plan
        async with trio.open_nursery() as nursery:
            for number in range(plan.clients):
                client = Client(
                    self._world,
                    f"client{number + 1}",
                    archive,
                    self._ledger,
                    self._world.random.choice(("OTHER", "OTHER", "OTHER", "NOBODY", "UNKNOWN")),
                    things=plan.things,
                    studies=plan.studies,
                    most_bytes=plan.most_bytes,
                    window=plan.window,
                    max_pdu_length=plan.max_pdu_length,
                    is_fair=plan.is_fair,
                )
                nursery.start_soon(client.run, plan.associations)
            if plan.restart_at is not None:
                await trio.sleep(plan.restart_at)
                archive.restart()

    async def _afterwards(self) -> None:
        """Start both once more, and look: through the front door, and behind it."""
        nodes = self._nodes()
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.run)
            for node in nodes:
                await node.serving()
            await self._look(*nodes)
            for node in nodes:
                await node.stop()

    async def _look(self, archive: Node, other: Node) -> None:
        plan = self._plan
        assert archive.archive is not None
        assert other.archive is not None
        client = Client(
            self._world, "auditor", archive, self._ledger, "OTHER",
            things=1, studies=1, most_bytes=2, window=1, max_pdu_length=128 << 10, is_fair=True,
        )  # fmt: skip
        await client.audit()
        # What only `db verify` finds: an object whose removal failed, or did not come to pass
        # after another had taken its place; and a name that a power failure has left alone.
        orphans = bool(self._disks[0].machine.failures) or (
            bool(plan.crashes)
            and (
                plan.duplicates is DuplicatePolicy.REPLACE
                or (plan.on_files and plan.power is False)
            )
        )
        await self._ledger.audit(archive.archive, orphans=orphans)
        await self._ledger.audit_copies(other.archive)
