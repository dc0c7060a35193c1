"""An archive as it runs: the real server on connections that are none of sockets, whose
process may end at any step of storage and is started again on what the disk kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from typing import Any, Final

import trio

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, ServerLimits, ServerOptions
from isocenter.services.association.server.admission import Connection
from isocenter.services.composition import build_deadlines, build_services
from isocenter.services.concurrency import Broadcast
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.transport import Transport
from isocenter.services.settings.sections.network import ServerSettings
from isocenter.services.settings.settings import Settings
from simulation.disk import Disk
from simulation.wire import OWNER, Door, End, Network
from simulation.world import World
from storage.power_model import Crash

PORT: Final = 104
_TODAY: Final = date(2026, 11, 20)
_GRACE_SECONDS: Final = 10.0
#: A stop takes its grace, and then what aborting takes.
_STOP_SECONDS: Final = 30.0
#: How often it is looked whether connections are left.
_LOOK_SECONDS: Final = 1.0


class SimulatedServer(Server):
    """Accepts the ends of wires in place of sockets; all the rest is the server's own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connections.open_transport = self._open  # type: ignore[method-assign]

    async def _accept(self, listener: Any, bind: ListenAddress, serving: trio.Nursery) -> None:
        assert isinstance(listener, Door)
        while True:
            end: Any = await listener.accept()
            self.statistics.connections += 1
            self._admission.make_room()
            connection = Connection(end.peer_address.partition(":")[0], end.peer_address)
            self._admission.add(connection)
            serving.start_soon(self._connections.handle, end, bind, connection)
            await trio.lowlevel.checkpoint()

    async def _open(
        self, sock: Any, bind: ListenAddress, connection: Connection
    ) -> Transport | None:
        assert isinstance(sock, End)
        return sock if await sock.first_byte() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """How an archive is set up."""

    duplicates: DuplicatePolicy
    memory_budget: int
    operations_window: int
    max_pdu_length: int
    associations: int


class Node:
    """One application entity and its machine.

    Attributes:
        archive, server: of the process that runs now.
        processes: how many there were.
        ended: there will be no more.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        ae_title: str,
        disk: Disk,
        configuration: Configuration,
        peers: tuple[Peer, ...] = (),
    ) -> None:
        self.world = world
        self.ae_title = ae_title
        self.disk = disk
        self.peer = Peer(ae_title, ae_title.lower(), PORT)
        self.archive: Archive | None = None
        self.server: Server | None = None
        self.processes = 0
        self.ended = trio.Event()
        self._network = network
        self._configuration = configuration
        self._settings = Settings(server=replace(ServerSettings(), ae_title=ae_title), peers=peers)
        self._wanted = True
        self._starts = Broadcast()

    async def run(self) -> None:
        """One process after the other, until `stop`."""
        OWNER.set(self.peer.host)
        machine = self.disk.machine
        while self._wanted:
            with trio.CancelScope() as process:
                machine.process_ends = self._end_of(process)
                try:
                    await self._process()
                except* Crash:
                    self.world.check(machine.crashed, "a crash out of nothing")
            self.archive = self.server = None
            self._network.vanish(self.peer.host)
            await self.disk.stop()
            machine.crashed = False
            if self._wanted:
                await trio.sleep(0 if self.world.calm else self.world.random.choice((0, 1, 30)))
        self.ended.set()
        self._starts.send()

    def _end_of(self, process: trio.CancelScope) -> Callable[[], None]:
        def end() -> None:
            self._network.vanish(self.peer.host)
            door = self._network.doors.get((self.peer.host, PORT))
            if door is not None:
                door.close()
            process.cancel()

        return end

    async def _process(self) -> None:
        machine, chosen = self.disk.machine, self._configuration
        self.processes += 1
        self.world.note(f"{self.ae_title}: process {self.processes} starts")
        machine.starting = True
        store, index = await self.disk.start()
        serial = count(1)
        async with Archive(
            store,
            index,
            duplicates=chosen.duplicates,
            memory_budget=chosen.memory_budget,
            today=lambda: _TODAY,
            token=lambda: f"{self.processes:04x}{next(serial):04x}",
        ) as archive:
            undone = await archive.recover()
            machine.starting = False
            self.world.note(f"{self.ae_title}: {undone} objects undone")
            self.archive = archive
            await self._serve(archive)
            self._look_at(archive)
        await self.disk.end()
        for what in self.disk.left_over():
            self.world.violation(f"{self.ae_title}: {what} left by a process that ended well")

    async def _serve(self, archive: Archive) -> None:
        chosen = self._configuration
        registry = build_services(self._settings, archive, None, None)
        self.server = SimulatedServer(
            registry,
            ServerOptions(
                access=AeTitleRules(ae_titles=frozenset({self.ae_title})),
                operations_window=chosen.operations_window,
                deadlines=build_deadlines(self._settings),
                limits=replace(DEFAULT_LIMITS, max_pdu_length=chosen.max_pdu_length),
                server_limits=ServerLimits(associations=chosen.associations),
                grace_seconds=_GRACE_SECONDS,
            ),
        )
        self._starts.send()
        door: Any = Door(self._network, (self.peer.host, PORT))
        bind = ListenAddress(host=self.peer.host, port=PORT)
        try:
            await self.server.run([(door, bind)], lambda: None)
        finally:
            door.close()

    def _look_at(self, archive: Archive) -> None:
        """After the server has ended well, nothing of its associations is left."""
        server, name = self.server, self.ae_title
        assert server is not None
        self.world.check(not server._admission.connections, f"{name}: connections are left")
        self.world.check(server.associations == 0, f"{name}: associations are left")
        self.world.check(
            not server._admission.per_ae_title, f"{name}: AE titles are left in the count"
        )
        self.world.check(
            archive.budget.taken == 0, f"{name}: {archive.budget.taken} bytes of the budget left"
        )

    async def serving(self) -> Server | None:
        """The server, as soon as there is one; it may just be starting.  None: never again."""
        while self.server is None and not self.ended.is_set():
            await self._starts.wait()
        return self.server

    async def until_idle(self, seconds: float) -> None:
        """Until the last association has ended by itself."""
        for _ in range(int(seconds / _LOOK_SECONDS)):
            server = await self.serving()
            if server is None or not server._admission.connections:
                return
            await trio.sleep(_LOOK_SECONDS)
        self.world.violation(f"{self.ae_title}: an association without end")

    async def stop(self) -> None:
        """Stop gracefully, and stay so."""
        self._wanted = False
        server = await self.serving()
        if server is not None:
            server.stop()
        with trio.move_on_after(_STOP_SECONDS + self.world.longest_way) as scope:
            await self.ended.wait()
        self.world.check(not scope.cancelled_caught, f"{self.ae_title}: does not stop")

    def restart(self) -> None:
        """Stop gracefully, and start again."""
        if self.server is not None:
            self.world.note(f"{self.ae_title}: is asked to stop")
            self.server.stop()
