"""The worker processes of a server, seen as one: two servers in the place of two processes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import trio

from isocenter.engine.pdu import Abort
from isocenter.services.association.operation import Operation
from isocenter.services.composition.processes import RunningProcesses
from isocenter.services.notices import Caller
from isocenter.services.system.recent_log import RecentLog
from support.raw import raw_peer
from support.serving import Scripted, port_of, serving

CT = "1.2.840.10008.5.1.4.1.1.2"
ALICE = Caller(association="", address="127.0.0.1:1", user="alice")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers")


async def nothing(operation: Operation) -> None:
    """Nobody asks for an operation."""


def logged(recent: RecentLog, time: float, text: str) -> None:
    record = logging.LogRecord("isocenter.server", logging.INFO, "", 0, text, (), None)
    record.created = time
    recent.handle(record)


async def test_all_processes_are_seen_from_each_and_obey_each(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("p")
    logs = RecentLog(), RecentLog()
    for number, (log, text) in enumerate(zip((*logs, *logs), "abcd", strict=True)):
        logged(log, float(number), text)
    async with (
        serving(Scripted([CT], nothing)) as first,
        serving(Scripted([CT], nothing)) as second,
        trio.open_nursery() as nursery,
    ):
        one, other = (
            RunningProcesses(server, log, number=2, folder=folder, name=name)
            for server, log, name in ((first, logs[0], "1"), (second, logs[1], "2"))
        )
        await nursery.start(one.run)
        await nursery.start(other.run)
        async with raw_peer(port_of(first)) as near, raw_peer(port_of(second)) as far:
            await near.associate(CT, calling="NEAR")
            await far.associate(CT, calling="FAR")
            for seen in await one.associations(), await other.associations():
                titles = [each.caller.calling_ae_title for each in seen.lasting]
                assert titles == ["NEAR", "FAR"], "the oldest first"
                assert seen.answering == 2
                assert (seen.figures.active, seen.figures.total) == (2, 2)
                assert seen.figures.bytes_received == sum(
                    each.bytes_received for each in seen.lasting
                )
            lines = await one.log()
            assert [line.message for line in lines.lines] == ["d", "c", "b", "a"]
            assert lines.answering == 2
            name = seen.lasting[1].caller.association
            assert not await one.end_association("nobody", ALICE)
            assert await one.end_association(name, ALICE)
            assert await far.pdu() == Abort(0, 0)
            await far.stream.aclose()
            await second._admission.wait_for_change()
            (left,) = (await other.associations()).lasting
            assert left.caller.calling_ae_title == "NEAR"
        nursery.cancel_scope.cancel()


async def test_one_process_asks_nobody(tmp_path: Path) -> None:
    async with serving(Scripted([CT], nothing)) as server:
        alone = RunningProcesses(server, RecentLog(), number=1, folder=None)
        await alone.run()
        assert (await alone.associations()).answering == (await alone.log()).answering == 1
        assert not await alone.end_association("nobody", ALICE)
        assert not alone.is_stopping
