"""Two nodes, of which one is killed or stands still, or which lose their database, under load.

Clients store on both all the while.  Nothing that was acknowledged is lost, and the node that
lives refuses nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
import trio

from durability.workload import SUCCESS, ConnectionLost, Item, Sender, findable
from support.postgresql import Server, running_server
from support.processes import ServedArchive, isocenter_command, served_archive
from support.raw import raw_peer

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("ISOCENTER_TEST_KILLS", "1"))
IS_USUAL_RUN = "ISOCENTER_TEST_KILLS" not in os.environ
CLIENTS = 3
#: Answers of the node that is to die, before it does.
MOST_ANSWERS = 60
#: What is refused while the database is away, is tried again until this has passed.
AWAY_SECONDS = 60.0
#: A lease, the time until a node is lost, and some more.
PAUSE_SECONDS = 20.0
#: A balancer here needs no time to notice.
NOTICE = ("env", "ISOCENTER__CLUSTER__DRAIN_NOTICE=0.2")


@dataclass
class Ledger:
    """What clients know: objects that were acknowledged, and how many answers there were."""

    acknowledged: dict[str, Item] = field(default_factory=dict)
    refused: int = 0
    studies: int = 0
    one_more: trio.Event = field(default_factory=trio.Event)

    def acknowledge(self, item: Item) -> None:
        self.acknowledged[item.uid] = item
        self.one_more.set()
        self.one_more = trio.Event()

    def new_study(self) -> int:
        self.studies += 1
        return self.studies


@dataclass
class Nodes:
    """Two nodes, which may be started anew."""

    folder: Path
    options: list[str]
    running: dict[str, ServedArchive] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self, name: str) -> ServedArchive:
        self.running[name] = self.stack.enter_context(
            served_archive(self.folder / name, *self.options, "--node", name, run_by=NOTICE)
        )
        return self.running[name]

    def drain(self, name: str) -> None:
        done = isocenter_command(
            "nodes", "drain", name, "--data-dir", self.folder / "one" / "data", *self.options
        )
        assert done.returncode == 0, done.stdout

    def verify(self) -> None:
        done = isocenter_command(
            "db", "verify", "--data-dir", self.folder / "one" / "data", *self.options
        )
        assert done.returncode == 0, done.stdout
        assert " 0 missing" in done.stdout


@contextmanager
def nodes_on(folder: Path, url: str) -> Iterator[Nodes]:
    nodes = Nodes(folder, ["--database", url, "--objects", f"file://{folder}/objects"])
    with nodes.stack:
        nodes.start("one")
        nodes.start("other")
        yield nodes


@pytest.fixture
def nodes(postgresql_server: Server, tmp_path: Path) -> Iterator[Nodes]:
    name = postgresql_server.new_database()
    with nodes_on(tmp_path, postgresql_server.url(name)) as running:
        yield running
    postgresql_server.give_back(name)


async def store_until(
    over: trio.Event, port: int, ledger: Ledger, *, may_refuse: bool = False
) -> None:
    """One client, until *over* or until the connection breaks."""
    study, number = ledger.new_study(), 0
    try:
        async with raw_peer(port) as peer:
            sender = Sender(peer)
            await sender.associate()
            while not over.is_set():
                number += 1
                item = Item(study, number)
                status = await sender.store(item)
                if status == SUCCESS:
                    ledger.acknowledge(item)
                else:
                    assert may_refuse, f"{status:04X}H"
                    ledger.refused += 1
    except ConnectionLost:
        assert not over.is_set()


async def when_acknowledged(ledger: Ledger, count: int) -> None:
    """Until so many more were."""
    wanted = len(ledger.acknowledged) + count
    while len(ledger.acknowledged) < wanted:
        await ledger.one_more.wait()


async def check(port: int, ledger: Ledger) -> None:
    found = await findable(port, range(1, ledger.studies + 1))
    lost = ledger.acknowledged.keys() - found
    assert not lost, f"{len(lost)} acknowledged objects are lost"


@pytest.mark.interop("storescu")
async def test_kill_9_of_a_node_under_load(nodes: Nodes) -> None:
    ledger, random = Ledger(), Random(ROUNDS)
    for number in range(ROUNDS):
        names = ["one", "other"]
        victim = names.pop(number % 2)
        alive = nodes.running[names[0]]
        over = trio.Event()
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(
                        store_until, trio.Event(), nodes.running[victim].port, ledger
                    )
                    nursery.start_soon(store_until, over, alive.port, ledger)
                await when_acknowledged(ledger, random.randint(1, MOST_ANSWERS))
                await trio.to_thread.run_sync(nodes.running[victim].kill)
                await when_acknowledged(ledger, MOST_ANSWERS)
                over.set()
        await check(alive.port, ledger)
        await trio.to_thread.run_sync(nodes.start, victim)
    await check(nodes.running["one"].port, ledger)
    await check(nodes.running["other"].port, ledger)
    await trio.to_thread.run_sync(nodes.verify)


@pytest.mark.skipif(IS_USUAL_RUN, reason="with one server tests/interop does it: tox -e nodes")
async def test_a_restart_of_postgresql_under_load(
    postgresql_server: Server, tmp_path: Path
) -> None:
    ledger, over = Ledger(), trio.Event()
    with running_server("fsync=on") as server:
        server.execute("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", "pacs")
        with nodes_on(tmp_path, server.url("pacs")) as nodes:
            with trio.fail_after(2 * AWAY_SECONDS):
                async with trio.open_nursery() as nursery:
                    for node in nodes.running.values():
                        for _ in range(CLIENTS):
                            nursery.start_soon(
                                partial(store_until, over, node.port, ledger, may_refuse=True)
                            )
                    for number in range(ROUNDS):
                        await when_acknowledged(ledger, MOST_ANSWERS)
                        mode = "immediate" if number % 2 == 0 else "fast"
                        await trio.to_thread.run_sync(server.stop, mode)
                        await trio.to_thread.run_sync(server.start, "fsync=on")
                    await when_acknowledged(ledger, MOST_ANSWERS)
                    over.set()
            for node in nodes.running.values():
                await check(node.port, ledger)
            await trio.to_thread.run_sync(nodes.verify)


async def relay(
    nodes: Nodes, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """A balancer of TCP connections: each in turn, and another node where one takes none, or where
    the kernel resets what came between the last look of a node that leaves and its close."""
    turns = count()

    async def serve(client: trio.SocketStream) -> None:
        async with client:
            request = await client.receive_some()
            ports = [node.port for node in nodes.running.values()]
            turn = next(turns)
            for place in range(len(ports)):
                port = ports[(turn + place) % len(ports)]
                try:
                    server = await trio.open_tcp_stream("127.0.0.1", port)
                except OSError:
                    continue
                try:
                    await server.send_all(request)
                    answer = await server.receive_some()
                    break
                except trio.BrokenResourceError:
                    await server.aclose()
            else:
                return
            await client.send_all(answer)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(pump, client, server)
                nursery.start_soon(pump, server, client)

    async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            async for data in source:
                await target.send_all(data)
            await target.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # Nobody waits for an answer on a connection that is gone.
            await source.aclose()
            await target.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(serve, listeners)


async def come_and_go(over: trio.Event, port: int, ledger: Ledger) -> None:
    """One client after the other, each with an association of a few objects; none is refused."""
    while not over.is_set():
        study = ledger.new_study()
        async with raw_peer(port) as peer:
            sender = Sender(peer)
            await sender.associate()
            for number in range(1, 6):
                item = Item(study, number)
                assert await sender.store(item) == SUCCESS
                ledger.acknowledge(item)
            await peer.release()


@pytest.mark.interop("storescu")
async def test_nodes_are_replaced_one_by_one_and_nobody_is_refused(nodes: Nodes) -> None:
    ledger, over = Ledger(), trio.Event()
    with trio.fail_after(240):
        async with trio.open_nursery() as relaying:
            port = await relaying.start(relay, nodes)
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(come_and_go, over, port, ledger)
                for name in list(nodes.running):
                    await when_acknowledged(ledger, MOST_ANSWERS)
                    await trio.to_thread.run_sync(nodes.drain, name)
                    assert await trio.to_thread.run_sync(nodes.running[name].process.wait) == 0
                    await trio.to_thread.run_sync(nodes.start, name)
                await when_acknowledged(ledger, MOST_ANSWERS)
                over.set()
            relaying.cancel_scope.cancel()
    for node in nodes.running.values():
        await check(node.port, ledger)


@pytest.mark.skipif(IS_USUAL_RUN, reason="takes half a minute a round: tox -e nodes")
async def test_a_node_that_stands_still_for_longer_than_its_lease(nodes: Nodes) -> None:
    """With real processes, hence in real time; `tests/simulation/cluster.py` does it in no time."""
    ledger, random = Ledger(), Random(ROUNDS)
    for number in range(min(ROUNDS, 50)):
        names = ["one", "other"]
        victim = nodes.running[names.pop(number % 2)]
        alive = nodes.running[names[0]]
        over = trio.Event()
        # It takes a fourth of that where nothing else runs.
        with trio.fail_after(15 * PAUSE_SECONDS):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(
                        partial(store_until, over, victim.port, ledger, may_refuse=True)
                    )
                    nursery.start_soon(store_until, over, alive.port, ledger)
                await when_acknowledged(ledger, random.randint(1, MOST_ANSWERS))
                victim.process.send_signal(signal.SIGSTOP)
                # The others go on, also if it stood still in the middle of a transaction.
                await trio.sleep(PAUSE_SECONDS)
                await when_acknowledged(ledger, MOST_ANSWERS)
                victim.process.send_signal(signal.SIGCONT)
                await when_acknowledged(ledger, MOST_ANSWERS)
                over.set()
        await check(victim.port, ledger)
        await check(alive.port, ledger)
    await trio.to_thread.run_sync(nodes.verify)
