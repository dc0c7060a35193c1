"""Connections without sockets: bytes in order, in any pieces, late, stalled or cut off anywhere.

Each direction is a `_Pipe` with room for so many bytes, as the buffers of two kernels and
the network between them have; whoever fills it waits.  An `End` is a transport as
`isocenter.services.net.transport` describes it.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.deadlines import Deadlines
from isocenter.services.concurrency import Broadcast
from isocenter.services.errors import ConnectError
from simulation.world import World

#: Receptions that need not wait before others get their turn, as of a real socket.
_FAIR_SHARE: Final = 8
_MOST_AT_ONCE: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How the network is.

    Attributes:
        room: bytes that one direction takes before its sender waits.
        latency: seconds that bytes wait at most before they are received.
        pieces: bytes that are received at once, at most.
        cut: how probable it is that a connection is cut, somewhere in its first `reach` bytes.
        stall: the same for a direction that stands still for a while, or for ever.
    """

    room: int
    latency: float
    pieces: int
    cut: float
    stall: float
    reach: int


class _Pipe:
    """One direction."""

    def __init__(self, world: World, weather: Weather, name: str) -> None:
        self.name = name
        self.held = bytearray()
        self.entered = 0
        self.left = 0
        #: Nothing more will enter; what is held can still be received.
        self.finished = False
        #: Nothing can be received any more.
        self.lost = False
        self.cut_at: float = math.inf
        self.stall_at: float = math.inf
        self.stalled_until = 0.0
        self.changed = Broadcast()
        self._room = weather.room
        self._world = world
        random = world.random
        if world.happens(weather.cut):
            self.cut_at = random.randrange(int(weather.reach ** random.random()) + 1)
        if world.happens(weather.stall):
            self.stall_at = random.randrange(int(weather.reach ** random.random()) + 1)
            self.stall_seconds = random.choice((0.5, 3, 20, 45, 90, math.inf))

    @property
    def is_cut(self) -> bool:
        return self.entered >= self.cut_at

    @property
    def is_stalled(self) -> bool:
        """Whether its bytes stand still; they may begin to do so now."""
        if self.left >= self.stall_at and self.held:
            self.stall_at = math.inf
            self.stalled_until = trio.current_time() + self.stall_seconds
            self._world.note(f"{self.name} stalls for {self.stall_seconds} s at byte {self.left}")
        return trio.current_time() < self.stalled_until and not self._world.calm

    def room(self) -> int:
        return int(min(self._room - len(self.held), self.cut_at - self.entered))

    def put(self, data: Buffer) -> None:
        self.held += data
        self.entered += len(data)
        self.changed.send()

    def take(self, most: int) -> bytes:
        count = int(min(most, len(self.held), max(1, self.stall_at - self.left)))
        data = bytes(memoryview(self.held)[:count])
        del self.held[:count]
        self.left += count
        self.changed.send()
        return data

    def finish(self, *, lose: bool) -> None:
        self.finished = True
        if lose:
            self.lost = True
            self.held.clear()
        self.changed.send()


class End:
    """One end of a wire: a `Transport`."""

    identity = None

    def __init__(self, world: World, weather: Weather, name: str, peer_address: str) -> None:
        self.name = name
        self.peer_address = peer_address
        self.closed = False
        self._world = world
        self._weather = weather
        self._at_once = 0
        self._incoming: _Pipe
        self._outgoing: _Pipe

    def join(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    async def first_byte(self) -> bool:
        """Until something has come; False when nothing ever will."""
        pipe = self._incoming
        while not pipe.held and not pipe.finished:
            await pipe.changed.wait()
        return bool(pipe.held)

    async def receive(self) -> Buffer:
        world, pipe = self._world, self._incoming
        if not world.calm and world.random.random() < 0.5:
            await trio.sleep(self._weather.latency * world.random.random() ** 2)
        self._at_once += 1
        if self._at_once > _FAIR_SHARE:
            self._at_once = 0
            await trio.lowlevel.checkpoint()
        while not self.closed and not pipe.lost:
            if pipe.is_stalled:
                with trio.move_on_at(pipe.stalled_until):
                    await pipe.changed.wait()
            elif pipe.held:
                most = _MOST_AT_ONCE if world.calm else world.random.randint(1, self._most())
                return pipe.take(most)
            elif pipe.finished:
                break
            else:
                self._at_once = 0
                await pipe.changed.wait()
        return b""

    def _most(self) -> int:
        return self._world.random.choice((self._weather.pieces, _MOST_AT_ONCE))

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        world, pipe = self._world, self._outgoing
        left = list(buffers)
        while left:
            if self.closed or pipe.finished:
                raise BrokenPipeError("the connection is gone")
            room = pipe.room()
            if room <= 0:
                break
            data = left[0]
            count = min(room, len(data))
            if world.happens(0.05):
                count = world.random.randint(0, count)
            pipe.put(memoryview(data)[:count])
            if pipe.is_cut:
                self.cut()
            if count == len(data):
                del left[0]
            else:
                left[0] = memoryview(data)[count:]
                if count < room:
                    break  # the kernel would not have more just now
        return left

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        left = buffers
        while left := self.send_now(left):
            progress()
            if self._outgoing.room() > 0:
                await trio.sleep(self._weather.latency * self._world.random.random())
            else:
                await self._outgoing.changed.wait()

    def cut(self) -> None:
        """The connection breaks, with or without what is on its way."""
        lose = self._world.random.random() < 0.5
        self._world.note(
            f"{self.name} is cut, {self._outgoing.entered} bytes sent and "
            f"{self._incoming.left} received{', with what was under way' if lose else ''}"
        )
        self._outgoing.finish(lose=lose)
        self._incoming.finish(lose=lose)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._world.note(f"{self.name} closes")
            # Unread bytes make TCP answer with a reset, which may overtake what was sent.
            overtaken = bool(self._incoming.held) and self._world.happens(0.5)
            self._incoming.finish(lose=True)
            self._outgoing.finish(lose=overtaken)

    def die(self) -> None:
        """The machine that had this end is gone: the other side is not told."""
        self.closed = True
        self._incoming.changed.send()
        self._outgoing.changed.send()

    def vanish(self) -> None:
        """The process that had this end is gone; its kernel tells the other side."""
        self.closed = True
        self._incoming.finish(lose=True)
        self._outgoing.finish(lose=self._world.random.random() < 0.5)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.cancel_shielded_checkpoint()


class Door:
    """Where somebody listens; what a server has for a socket that listens."""

    def __init__(self, network: Network, address: tuple[str, int]) -> None:
        self._network = network
        self._address = address
        self._send, self._receive = trio.open_memory_channel[End](math.inf)
        network.doors[address] = self

    def knock(self, end: End) -> None:
        self._send.send_nowait(end)

    async def accept(self) -> End:
        return await self._receive.receive()

    def close(self) -> None:
        """Nobody listens any more; who was not accepted is reset."""
        self._network.doors.pop(self._address, None)
        while True:
            try:
                self._receive.receive_nowait().vanish()
            except trio.WouldBlock:
                break


#: Whose process the current task belongs to: its ends vanish with it.
OWNER: Final[ContextVar[str]] = ContextVar("owner")


class Network:
    """Who listens where, and what is connected."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.doors: dict[tuple[str, int], Door] = {}
        self.ends: dict[str, list[End]] = {}
        self._world = world
        self._weather = weather
        self._serial = 0

    async def connect(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        deadlines: Deadlines,
        server_name: str = "",
    ) -> End:
        """Stands in for `isocenter.services.net.connect.connect`."""
        assert tls is None
        await trio.sleep(0 if self._world.calm else self._weather.latency)
        door = self.doors.get((host, port))
        if door is None:
            raise ConnectError(f"cannot connect to {host}:{port}: refused")
        return self._join(OWNER.get(), host, door)

    def _join(self, owner: str, host: str, door: Door) -> End:
        world, weather = self._world, self._weather
        self._serial += 1
        name = f"wire {self._serial}"
        near = End(world, weather, f"{name} {owner}", f"{host}:104")
        far = End(world, weather, f"{name} {host}", f"{owner}:{self._serial}")
        there = _Pipe(world, weather, f"{name} {owner}→{host}")
        back = _Pipe(world, weather, f"{name} {host}→{owner}")
        near.join(back, there)
        far.join(there, back)
        for whose, end in ((owner, near), (host, far)):
            ends = self.ends.setdefault(whose, [])
            ends[:] = [each for each in ends if not each.closed]
            ends.append(end)
        world.note(f"{name}: {owner} connects to {host}")
        door.knock(far)
        if there.cut_at == 0 or back.cut_at == 0:
            near.cut()
        return near

    def vanish(self, owner: str) -> None:
        """The process is gone, and its connections with it."""
        for end in self.ends.pop(owner, []):
            if not end.closed:
                end.vanish()
