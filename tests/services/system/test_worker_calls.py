"""Calls between the worker processes of a server."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import pytest
import trio

from isocenter.services.system import worker_calls
from isocenter.services.system.worker_calls import WorkerCalls

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w")  # a short path: addresses of sockets have 107 bytes


async def shouted(question: bytes) -> bytes:
    return question.upper()


async def twice(question: bytes) -> bytes:
    return question * 2


async def test_each_worker_is_asked_but_not_the_one_that_asks(folder: Path) -> None:
    async with trio.open_nursery() as nursery:
        for name, answer in ("a", shouted), ("b", shouted), ("c", twice):
            await nursery.start(WorkerCalls(folder, name).serve, answer)
        assert sorted(await WorkerCalls(folder, "a").ask(b"xy")) == [b"XY", b"xyxy"]
        large = b"y" * 3_000_000
        assert sorted(await WorkerCalls(folder, "d").ask(large)) == [
            large.upper(), large.upper(), large * 2,
        ]  # fmt: skip
        nursery.cancel_scope.cancel()
    assert await WorkerCalls(folder, "a").ask(b"xy") == []
    assert os.listdir(folder) == []


async def test_who_has_ended_or_hangs_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_calls, "ANSWER_SECONDS", 2.0)
    with socket.socket(socket.AF_UNIX) as gone, socket.socket(socket.AF_UNIX) as hangs:
        gone.bind(str(folder / "gone.sock"))
        hangs.bind(str(folder / "hangs.sock"))
        hangs.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(WorkerCalls(folder, "b").serve, shouted)
            assert await WorkerCalls(folder, "a").ask(b"x") == [b"X"]
            nursery.cancel_scope.cancel()


async def test_a_question_that_cannot_be_answered_ends_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def divided(question: bytes) -> bytes:
        return b"%d" % (1 // int(question))

    async with trio.open_nursery() as nursery:
        await nursery.start(WorkerCalls(folder, "b").serve, divided)
        with caplog.at_level(logging.ERROR):
            assert await WorkerCalls(folder, "a").ask(b"0") == []
        assert "ZeroDivisionError" in caplog.text
        assert await WorkerCalls(folder, "a").ask(b"1") == [b"1"]
        nursery.cancel_scope.cancel()


async def test_a_socket_of_an_earlier_process_is_taken_over(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.bind(str(folder / "b.sock"))
    async with trio.open_nursery() as nursery:
        await nursery.start(WorkerCalls(folder, "b").serve, shouted)
        assert await WorkerCalls(folder, "a").ask(b"x") == [b"X"]
        nursery.cancel_scope.cancel()


async def test_where_no_socket_can_be_the_server_goes_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(WorkerCalls(folder / "missing", "b").serve, shouted)
    assert "other workers cannot ask this one" in caplog.text


@pytest.mark.parametrize("left", [0, 1])
async def test_without_file_descriptors_nothing_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with trio.open_nursery() as nursery:
        await nursery.start(WorkerCalls(folder, "b").serve, shouted)
        asking = WorkerCalls(folder, "a")
        with monkeypatch.context() as patched, socket.socket() as probe:
            patched.setattr(worker_calls, "ANSWER_SECONDS", 0.1)
            lowest = probe.fileno()
            probe.close()
            # One is left for who asks, and none for who answers; or none at all.
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, before[1]))
            try:
                assert await asking.ask(b"x") == []
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert await asking.ask(b"x") == [b"X"]
        nursery.cancel_scope.cancel()
