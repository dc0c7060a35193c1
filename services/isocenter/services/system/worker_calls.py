"""Calls between worker processes of a server, over sockets in a private folder."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import trio

log = logging.getLogger("isocenter.server")

#: Who does not answer within so long is left out.
ANSWER_SECONDS: Final = 2.0
_MOST_BYTES: Final = 16 << 20
_MOST_WAITING: Final = 64
#: After which one that could not be accepted is tried again: there are no file descriptors.
_RELIEF_SECONDS: Final = 0.1
_END: Final = ".sock"


class WorkerCalls:
    """This process among the workers of a server.

    A question is bytes, and so is the answer.  A worker that has just ended, or hangs, answers
    nothing; nobody waits for it for long.

    Args:
        folder: where each has its socket; of this server alone.
        name: of this one, there; empty: its process ID.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._folder = folder
        self._own = folder / f"{name or os.getpid()}{_END}"

    async def serve(
        self,
        answer: Callable[[bytes], Awaitable[bytes]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer the others until cancelled."""
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            try:
                self._own.unlink(missing_ok=True)  # of one that had the same process ID
                await listening.bind(str(self._own))
                listening.listen(_MOST_WAITING)
            except OSError as error:
                log.warning("other workers cannot ask this one: %s", error.strerror)
                task_status.started()
                return
            try:
                async with trio.open_nursery() as nursery:
                    task_status.started()
                    while True:
                        try:
                            asking, _ = await listening.accept()
                        except OSError:
                            await trio.sleep(_RELIEF_SECONDS)
                            continue
                        nursery.start_soon(_answer, trio.SocketStream(asking), answer)
            finally:
                self._own.unlink(missing_ok=True)

    async def ask(self, question: bytes) -> Sequence[bytes]:
        """What the others answer, those that do."""
        answers: list[bytes] = []

        async def ask_one(path: Path) -> None:
            answer = b""
            with trio.move_on_after(ANSWER_SECONDS):
                answer = await _asked(path, question)
            if answer:
                answers.append(answer)

        try:
            paths = sorted(self._folder.glob(f"*{_END}"))
        except OSError:  # no file descriptors
            return answers
        async with trio.open_nursery() as nursery:
            for path in paths:
                if path != self._own:
                    nursery.start_soon(ask_one, path)
        return answers


async def _answer(stream: trio.SocketStream, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
    async with stream:
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                await stream.send_all(await answer(await _received(stream)))
        except (OSError, trio.BrokenResourceError):
            pass  # whoever asked has gone
        except Exception as error:
            # A fault of ours, and no reason to stop serving.
            log.error("a question of another worker is not answered: %s", type(error).__name__)


async def _asked(path: Path, question: bytes) -> bytes:
    """Empty: it does not answer."""
    try:
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            await sock.connect(str(path))
            stream = trio.SocketStream(sock)
            await stream.send_all(question)
            await stream.send_eof()
            return await _received(stream)
    except (OSError, trio.BrokenResourceError):
        return b""


async def _received(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    while piece := await stream.receive_some():
        received += piece
        if len(received) > _MOST_BYTES:
            raise OSError("more than a worker says")
    return bytes(received)
