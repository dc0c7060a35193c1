"""A throttle that connections share."""

from __future__ import annotations

from functools import partial

import trio
import trio.testing

from isocenter.services.net.throttle import Throttle, ThrottledTransport
from isocenter.services.net.transport import StreamTransport

RATE = 100_000.0


async def test_what_leaves_keeps_to_the_rate_and_arrives_as_it_was(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = Throttle(RATE)
    sent = [bytes([number]) * size for number, size in enumerate((10, 300_000, 5, 70_000, 3))]
    received = bytearray()
    moments = 0

    def progress() -> None:
        nonlocal moments
        moments += 1

    ours, theirs = trio.testing.memory_stream_pair()
    transport = ThrottledTransport(StreamTransport(ours, "there"), throttle)
    assert transport.send_now(sent) == sent, "nothing leaves out of turn"

    async def receive() -> None:
        while chunk := await theirs.receive_some():
            received.extend(chunk)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await transport.send(sent, progress)
        await ours.aclose()
    seconds = trio.current_time() - began
    assert bytes(received) == b"".join(sent)
    wanted = len(received) / RATE
    assert wanted - 0.3 <= seconds <= wanted + 0.3
    assert moments >= len(received) // (64 << 10), "who waits for progress hears of it"


async def test_connections_share_it(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(RATE)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(partial(throttle.wait, 50_000))
    assert 1.7 <= trio.current_time() - began <= 2.1
